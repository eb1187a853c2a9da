"""Files of weights: every format, parity with PyTorch's fixtures, a report by name; malicious,
broken and foreign files refused.
"""

import collections
import io
import os
import pickle
import re
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.models import build
from fexpr.models.htnet import HTNet
from fexpr.models.weights import files, layouts
from fexpr.weights import main

FIXTURES = Path(__file__).parents[2] / "fixtures"


def torch_zip(path, content, storages=(), folder="archive"):
    """A file as torch.save writes it: `content` pickled by hand (bytes), and the numbers of each
    storage.
    """
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", content)
        archive.writestr(f"{folder}/byteorder", b"little")
        for key, array in storages:
            archive.writestr(f"{folder}/data/{key}", array.tobytes())
        archive.writestr(f"{folder}/version", b"3\n")
    return path


class Storage:
    """Stands for torch.FloatStorage and its like in a pickle."""

    def __init__(self, key, array, kind):
        self.key, self.array, self.kind = key, array, kind


class Tensor:
    """Pickled as PyTorch pickles a tensor."""

    def __init__(self, storage, offset, size, stride):
        self.arguments = (storage, offset, size, stride, False, collections.OrderedDict())


class Named:
    """A name of some module that need not exist here."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class TorchPickler(pickle._Pickler):
    """Writes what torch.save writes, without PyTorch."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def persistent_id(self, value):
        if isinstance(value, Storage):
            return ("storage", Named("torch", value.kind), value.key, "cpu", value.array.size)
        return None

    def save_named(self, value):
        self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())

    def save_tensor(self, value):
        self.save_reduce(Named("torch._utils", "_rebuild_tensor_v2"), value.arguments)

    def save_reduce(self, function, arguments, *rest, **options):
        self.save(function)
        self.save(arguments)
        self.write(pickle.REDUCE)

    dispatch[Named], dispatch[Tensor] = save_named, save_tensor


def pickled(value):
    buffer = io.BytesIO()
    TorchPickler(buffer, 2).dump(value)
    return buffer.getvalue()


def saved(path, arrays, wrap=None, kind="FloatStorage", prefix=""):
    """A state dict of contiguous tensors; `wrap` puts it into a checkpoint."""
    storages = [(str(i), np.ascontiguousarray(a)) for i, a in enumerate(arrays.values())]
    tensors = {
        prefix + name: Tensor(
            Storage(key, a, kind), 0, a.shape, tuple(s // a.itemsize for s in a.strides)
        )
        for name, (key, a) in zip(arrays, storages, strict=True)
    }
    return torch_zip(path, pickled(wrap(tensors) if wrap else tensors), storages)


def fixture(name):
    with np.load(FIXTURES / f"{name}.npz") as file:
        return (
            {n.removeprefix("param:"): file[n] for n in file.files if n.startswith("param:")},
            file["input_nchw"],
            file["output"],
        )


def shapes(model, *image):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *image)))


TINY = {"dim": 8, "heads": 2, "num_hierarchies": 2, "block_repeats": 2}


@pytest.mark.parametrize("how", ["plain", "checkpoint", "safetensors"])
def test_htnet_from_pytorchs_file(how, tmp_path):
    state, images, expected = fixture("htnet_tiny_2level")
    if how == "safetensors":
        files.write_safetensors(tmp_path / "w", state, {})
        path = tmp_path / "w"
    elif how == "checkpoint":  # of a training script, from several GPUs
        path = saved(
            tmp_path / "w.pth",
            state,
            lambda s: {"epoch": 3, "state_dict": s, "best": 0.5},
            prefix="module.",
        )
    else:
        path = saved(tmp_path / "w.pth", state)
    model = HTNet(5, **TINY)
    variables, report = layouts.load(files.read(path), model, shapes(model, 28, 28, 3))
    assert len(report.loaded) == len(state)
    np.testing.assert_allclose(
        jax.jit(model.apply)(variables, jnp.asarray(images.transpose(0, 2, 3, 1))),
        expected,
        atol=1e-5,
    )
    back = layouts.to_torch(model, variables)
    assert back.keys() == state.keys()
    assert all(np.array_equal(back[name], state[name]) for name in state)


def test_deep_emotion_for_another_number_of_classes(tmp_path):
    """AffectNet's three polarities to seven classes: all but the last layer, and that is said."""
    state, *_ = fixture("deep_emotion_original")
    model = build("deep_emotion", num_classes=7)
    variables, report = layouts.load(
        files.read(saved(tmp_path / "a.pt", state)), model, shapes(model, 48, 48, 1)
    )
    assert set(report.reinitialized) == {"params/head/kernel", "params/head/bias"}
    assert "reinitialized: head (3 classes in the file, 7 in the model)" in report.summary()
    assert "head" not in variables["params"]
    np.testing.assert_array_equal(variables["params"]["hidden"]["kernel"], state["fc1.weight"].T)
    _, report = layouts.load(
        files.read(tmp_path / "a.pt"),
        build("deep_emotion", num_classes=3),
        shapes(model, 48, 48, 1),
        reinitialize="^hidden/",
    )
    assert "params/hidden/kernel" in report.reinitialized


def test_views_types_and_shared_storages_of_a_pytorch_file(tmp_path):
    numbers = np.arange(12, dtype=np.float32)
    shared = Storage("0", numbers, "FloatStorage")
    half = np.array([1.5, -2, 0.25], ml_dtypes.bfloat16)
    content = {
        "t": Tensor(shared, 0, (3, 4), (1, 3)),
        "tail": Tensor(shared, 8, (4,), (1,)),
        "one": Tensor(shared, 5, (), ()),
        "none": Tensor(shared, 0, (0, 3), (3, 1)),
        "half": Tensor(Storage("1", half, "BFloat16Storage"), 0, (3,), (1,)),
    }
    arrays = files.read(
        torch_zip(tmp_path / "v.pt", pickled(content), [("0", numbers), ("1", half)])
    ).arrays
    np.testing.assert_array_equal(arrays["t"], numbers.reshape(4, 3).T)
    np.testing.assert_array_equal(arrays["tail"], numbers[8:])
    assert (arrays["one"], arrays["none"].shape) == (5, (0, 3))
    np.testing.assert_array_equal(arrays["half"].astype(np.float32), [1.5, -2, 0.25])


def test_pytorchs_own_file_where_pytorch_is(tmp_path):
    torch = pytest.importorskip("torch")
    state = {
        "a": torch.arange(6.0).reshape(2, 3).T,
        "b": torch.nn.Parameter(torch.ones(2, dtype=torch.float16)),
        "n": torch.tensor(3),
    }
    torch.save(collections.OrderedDict(state), tmp_path / "own.pth")
    found = files.read(tmp_path / "own.pth").arrays
    assert all(
        np.array_equal(found[name], tensor.detach().numpy()) for name, tensor in state.items()
    )


class Run:
    """What a malicious file makes an unpickler do."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("disguise", ["bare", "inside a state dict"])
def test_a_malicious_pickle_is_refused_and_does_not_run(protocol, disguise, tmp_path):
    trace = tmp_path / "it ran"
    evil = Run(f"touch '{trace}'")
    content = pickle.dumps(evil if disguise == "bare" else {"conv1.weight": evil}, protocol)
    pickle.loads(content)
    assert trace.exists()  # it works, where it is let
    trace.unlink()
    with pytest.raises(
        UserError,
        match=r"(posix|nt)\.system",
    ):
        files.read(torch_zip(tmp_path / "evil.pth", content))
    (tmp_path / "old.pth").write_bytes(content)
    with pytest.raises(UserError, match="bare pickle"):
        files.read(tmp_path / "old.pth")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("collections", "OrderedDict.fromkeys"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch", "FloatStorage.dtype"),
        ("numpy", "load"),
        ("__main__", "Net"),
        ("torch.storage", "_load_from_bytes"),
    ],
)
def test_no_other_name_is_admitted(module, name, tmp_path):
    short = lambda text: pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()
    content = (
        pickle.PROTO + b"\x04" + short(module) + short(name) + pickle.STACK_GLOBAL + pickle.STOP
    )
    with pytest.raises(UserError, match=re.escape(f"{module}.{name}")):
        files.read(torch_zip(tmp_path / "x.pt", content))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (3, 5), (5, 1)),
        (11, (2,), (1,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (10**9,), (0,)),
        (0, (2,), (1, 1)),
        (0, (2.0,), (1,)),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(offset, size, stride, tmp_path):
    numbers = np.arange(12, dtype=np.float32)
    content = pickled({"a": Tensor(Storage("0", numbers, "FloatStorage"), offset, size, stride)})
    with pytest.raises(UserError, match=r"damaged.*PyTorch"):
        files.read(torch_zip(tmp_path / "x.pt", content, [("0", numbers)]))


def test_files_cut_off_at_any_place_say_so(tmp_path):
    state, *_ = fixture("htnet_tiny_2level")
    whole = {"a.pth": saved(tmp_path / "a.pth", state)}
    files.write_safetensors(tmp_path / "b.safetensors", state, {})
    from tests.models import keras_faces

    keras_faces.legacy_h5(tmp_path / "c.h5", keras_faces.vgg16(8, (2,), (1,)))
    for name in ("a.pth", "b.safetensors", "c.h5"):
        content = (tmp_path / name).read_bytes()
        for share in (0.0005, 0.3, 0.6, 0.97):
            (tmp_path / f"cut {name}").write_bytes(content[: max(1, int(share * len(content)))])
            with pytest.raises(UserError, match=r"damaged|no file of weights|cut off"):
                files.read(tmp_path / f"cut {name}")
    assert whole


def test_a_changed_byte_of_our_own_files_is_found(tmp_path):
    arrays = {"b": np.arange(6.0).reshape(2, 3), "a": np.float32(1)}
    about = {files.CHECKSUM: files.checksum(arrays), "people": "samm/006"}
    files.write_safetensors(tmp_path / "w", arrays, about)
    assert files.read(tmp_path / "w").about.items() > about.items()
    content = (tmp_path / "w").read_bytes()
    for changed, what in (
        (content[:-1] + bytes([content[-1] ^ 1]), "arrays"),
        (content.replace(b"samm/006", b"samm/007"), "metadata"),
    ):
        (tmp_path / "w").write_bytes(changed)
        with pytest.raises(UserError, match=f"its {what} are not those that were written"):
            files.read(tmp_path / "w")
    older = content.replace(files.CHECKSUM_OF_METADATA.encode(), b"of_an_older_ve")
    (tmp_path / "w").write_bytes(older)  # older versions wrote none
    assert files.read(tmp_path / "w").about["people"] == "samm/006"


def test_wrong_architectures_are_named_and_nothing_is_loaded(tmp_path):
    from tests.models import keras_faces

    resnet = keras_faces.legacy_h5(tmp_path / "r.h5", keras_faces.resnet50(45, 2, (1,)))
    vgg = build("vggface_vgg16", num_classes=7, widths=(4, 4), convolutions=(2, 2))
    with pytest.raises(UserError, match="vggface_resnet50") as error:
        layouts.load(files.read(resnet), vgg, shapes(vgg, 48, 48, 1))
    assert "conv1_1/kernel: missing, expected (3, 3, 3, 4)" in error.value.text()
    assert "conv1_7x7_s2/kernel: not part of this model, found (7, 7, 3, 2)" in error.value.text()
    with pytest.raises(UserError, match="HTNet and DeepEmotion"):
        layouts.load(files.read(resnet), HTNet(5, **TINY), {})
    state, *_ = fixture("htnet_tiny_2level")
    position = np.full_like(state["layers.0.0.pos_emb"], np.nan)
    mixed = saved(
        tmp_path / "m.pth",
        state
        | {"layers.0.0.pos_emb": position, "to_patch_embedding.1.bias": np.ones(7, np.float32)},
    )
    model = HTNet(5, **TINY)
    with pytest.raises(UserError) as error:
        layouts.load(files.read(mixed), model, shapes(model, 28, 28, 3))
    assert "layers.0.0.pos_emb: contains NaN" in error.value.text()
    assert "to_patch_embedding.1.bias: expected (8,), found (7,)" in error.value.text()


def test_files_of_other_kinds_say_what_is_read(tmp_path):
    import h5py

    (tmp_path / "page.h5").write_text("<html>not found</html>")
    np.savez(tmp_path / "a.npz", a=np.zeros(2))
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f["x"] = np.zeros(2)
    with h5py.File(tmp_path / "early.weights.h5", "w") as f:  # the first Keras 3
        f["layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 4))
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as f:
        f.writestr("net/code/__torch__.py", "")
        f.writestr("net/data.pkl", "")
    for name, message in (
        ("page.h5", "a page that says 'not found'"),
        ("a.npz", "archive without weights"),
        ("other.h5", "not a file of Keras"),
        ("early.weights.h5", "which layer is which"),
        ("script.pt", "TorchScript"),
        ("none.h5", "No such file"),
    ):
        with pytest.raises(UserError) as error:
            files.read(tmp_path / name)
        assert message in error.value.text()


def test_inspect_prints_what_a_file_holds(tmp_path, capsys):
    state, *_ = fixture("deep_emotion_baseline")
    assert main(["inspect", str(saved(tmp_path / "d.pt", state))]) == 0
    said = capsys.readouterr().out
    assert "PyTorch" in said
    assert "looks like  deep_emotion, variant baseline" in said
    assert re.search(r"conv1\.weight\s+10x1x3x3\s+float32", said)
    (tmp_path / "old.pt").write_bytes(pickle.dumps({}))
    assert main(["inspect", str(tmp_path / "old.pt")]) == 2
    assert "bare pickle" in capsys.readouterr().err
