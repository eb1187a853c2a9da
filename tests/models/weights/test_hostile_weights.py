"""Files of weights that claim more than they hold, lead to other files, or go in circles: refused, in
little time and memory."""

import pickle
import time
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.models.weights import files
from tests.models.weights.test_weights import (
    Named,
    Storage,
    Tensor,
    TorchPickler,
    pickled,
    saved,
    torch_zip,
)

ARRAYS = {"conv.weight": np.ones((2, 3), np.float32), "conv.bias": np.zeros(2, np.float32)}


@pytest.fixture(autouse=True)
def _bounds():
    """Whatever the file claims."""
    tracemalloc.start()
    began = time.process_time()
    yield
    assert tracemalloc.get_traced_memory()[1] < 350e6
    tracemalloc.stop()
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("prefix", "taken"),
    [("_orig_mod.", "_orig_mod."), ("model.", "model."), ("net.", "net."), ("module.", "module.")]
    + [("model._orig_mod.module.", "model._orig_mod.module.")],
)
def test_prefixes_of_training_loops_are_taken_off(tmp_path, prefix, taken):
    found = files.read(saved(tmp_path / "w.pt", ARRAYS, prefix=prefix))
    assert found.arrays.keys() == ARRAYS.keys()
    assert taken in found.about.values()
    files.write_safetensors(tmp_path / "w", {prefix + n: a for n, a in ARRAYS.items()}, {})
    assert files.read(tmp_path / "w").arrays.keys() == ARRAYS.keys()


def test_a_prefix_that_not_all_names_have_stays(tmp_path):
    mixed = {"model.a": np.ones(1, np.float32), "loss.b": np.ones(1, np.float32)}
    assert files.read(saved(tmp_path / "w.pt", mixed)).arrays.keys() == mixed.keys()


@pytest.mark.parametrize("name", ["state_dict", "model_state", "net", "params", "model", "network"])
def test_wrappers_of_checkpoints(tmp_path, name):
    path = saved(tmp_path / "w.pt", ARRAYS, wrap=lambda s: {"epoch": 3, name: s, "lr": 0.1})
    assert files.read(path).arrays.keys() == ARRAYS.keys()


class Number(Tensor):
    """Pickled as NumPy pickles a number: scalar(dtype('f8', False, True), …)."""

    def __init__(self, core):
        self.core = core


def _save_number(pickler, number):
    pickler.save_reduce(Named("numpy", "dtype"), ("f8", False, True))
    pickler.save((3, "<", None))
    pickler.write(pickle.BUILD)
    pickler.write(pickle.POP)
    pickler.save_reduce(Named(f"numpy.{number.core}.multiarray", "scalar"), ("f8", "numbers"))


TorchPickler.dispatch[Number] = _save_number


@pytest.mark.parametrize("core", ["core", "_core"])
def test_a_number_of_numpy_beside_weights(tmp_path, core):
    wrap = lambda tensors: {"best": Number(core), "state_dict": tensors}
    path = saved(tmp_path / "w.pt", ARRAYS, wrap=wrap)
    assert files.read(path).arrays.keys() == ARRAYS.keys()


def refused(path, why):
    with pytest.raises(UserError, match=why):
        files.read(path)


def test_a_pickle_that_makes_room_for_billions_of_objects(tmp_path):
    for memo in (b"r\xff\xff\xff\x0f", b"r\xff\xff\xff\x7f"):
        refused(torch_zip(tmp_path / "w.pt", b"\x80\x02}" + memo + b"."), "object .*number")


def test_dicts_in_circles_and_in_one_another(tmp_path):
    circle = b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."
    refused(torch_zip(tmp_path / "circle.pt", circle), "nested")
    nested = {}
    for _ in range(40):
        nested = {"a": nested, "b": nested}  # 2 ** 40 paths, in a pickle of a few hundred bytes
    refused(torch_zip(tmp_path / "paths.pt", pickled(nested)), "nested")


def test_many_tensors_of_one_storage(tmp_path):
    storage = Storage("0", np.zeros(2**18, np.float32), "FloatStorage")
    content = {f"t{i}": Tensor(storage, 0, (2**18,), (1,)) for i in range(300)}
    path = torch_zip(tmp_path / "w.pt", pickled(content), [("0", storage.array)])
    refused(path, "tensors claim")


@pytest.mark.parametrize("member", ["data.pkl", "byteorder", "data/0"])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_members_that_unpack_to_much_or_are_damaged(tmp_path, member, method):
    source = saved(tmp_path / "w.pt", {"a": np.arange(999, dtype=np.float32)})
    for damage in (False, True):
        with (
            zipfile.ZipFile(source) as whole,
            zipfile.ZipFile(tmp_path / "x.pt", "w", method) as changed,
        ):
            for name in whole.namelist():
                bomb = name == f"archive/{member}" and not damage
                changed.writestr(name, bytes(10**7) if bomb else whole.read(name))
        if damage:
            data = bytearray((tmp_path / "x.pt").read_bytes())
            with zipfile.ZipFile(tmp_path / "x.pt") as archive:
                start = archive.getinfo(f"archive/{member}").header_offset + 45
            data[start : start + 12] = b"\xff\x00" * 6
            (tmp_path / "x.pt").write_bytes(data)
        refused(tmp_path / "x.pt", "state dict|damaged|no tensors")


def keras(path, change=lambda f: None):
    with h5py.File(path, "w") as f:
        for name, shape in {"conv": (3, 3, 3, 4), "head": (8, 2)}.items():
            variables = f.create_group(f"layers/{name}/vars")
            variables.attrs["name"] = name
            variables["0"], variables["1"] = np.zeros(shape, "f4"), np.zeros(shape[-1], "f4")
        change(f)
    return path


def replaced(new):
    def change(f):
        del f["layers/conv/vars/0"]
        new(f, "layers/conv/vars/0")

    return change


def _external(f, place):
    f.create_dataset(place, (4,), "f4", external=[("/etc/passwd", 0, 16)])


def _virtual(f, place):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    f.create_virtual_dataset(place, layout)


def _many_groups(f):
    f.create_group("e0")
    for i in range(1, 30):
        for side in "ab":
            f[f"e{i}/{side}"] = f[f"e{i - 1}"]
    f["layers/conv/layers"] = f["e29"]


def _link(link):
    def make(f, place):
        f[place] = link

    return replaced(make)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (replaced(_external), "another file"),
        (replaced(_virtual), "another file"),
        (_link(h5py.ExternalLink("/etc/passwd", "/x")), "link to another"),
        (_link(h5py.SoftLink("/layers/conv")), "link to another"),
        (
            replaced(lambda f, p: f.create_dataset(p, (5 * 10**9,), "f4", chunks=(1024,))),
            "claim",
        ),
        (replaced(lambda f, p: f.create_dataset(p, (10**18,), "i1", chunks=(1024,))), "claim"),
        (replaced(lambda f, p: f.create_group(p)), "vars/0 .*array"),
        (_many_groups, "occurs twice|more than .* groups"),
        (lambda f: f.create_group("layers/" + "a/" * 40), "groups"),
        (lambda f: f.__setitem__("layers/zz", 3), "layers/zz .*group"),
        (lambda f: f.__setitem__("layers/conv/layers", 3), "conv/layers .*group"),
        (lambda f: f["layers/conv/vars"].attrs.__setitem__("name", 3), "expected a name"),
        (lambda f: f.attrs.__setitem__("layer_names", "conv"), "expected a list of names"),
    ],
)
def test_hdf5_that_leads_elsewhere_or_claims_much(tmp_path, change, why):
    path = keras(tmp_path / "w.weights.h5", change)
    refused(path, why)
    with zipfile.ZipFile(tmp_path / "w.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "model.weights.h5")
    refused(tmp_path / "w.keras", why)


def test_sizes_of_zero_in_a_heap_of_texts(tmp_path):
    """On which libhdf5 itself loops for ever."""
    path = keras(tmp_path / "w.weights.h5", lambda f: f.attrs.__setitem__("backend", "jax"))
    assert files.read(path).about == {"backend": "jax"}
    content = bytearray(path.read_bytes())
    at = content.index(b"GCOL")
    size = int.from_bytes(content[at + 8 : at + 16], "little")
    content[at + 16 : at + size] = bytes(size - 16)
    path.write_bytes(content)
    refused(path, "damaged.* heap of texts")


def test_a_layer_of_another_kind_is_listed_and_named(tmp_path, capsys):
    def normalization(f):
        variables = f.create_group("layers/normalization/vars")
        variables.attrs["name"] = "scaling"
        for i in range(3):
            variables[str(i)] = np.zeros(3, "f4")

    found = files.read(keras(tmp_path / "w.weights.h5", normalization))
    assert [name for name in found.arrays if name.startswith("scaling/")] == [
        f"scaling/variable_{i}" for i in range(3)
    ]
    assert found.about == {"layers of a kind that is not known": "scaling"}


def test_what_is_no_file_of_weights(tmp_path):
    (tmp_path / "link.pt").symlink_to("/dev/zero")
    refused(tmp_path / "link.pt", "pipe.*device")
    with open(tmp_path / "sparse.pt", "wb") as f:
        f.truncate(10**11)
    refused(tmp_path / "sparse.pt", "100,000,000,000 bytes")
    refused(tmp_path, "folder")
    with zipfile.ZipFile(tmp_path / "w.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(15 * 10**7))
    refused(tmp_path / "w.keras", "unpack")
