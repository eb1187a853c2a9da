"""The page in headless Chromium, from click to table; nothing leaves the machine.

Needs the extra [app], `pip install playwright`, and a Chromium (Debian: apt-get install chromium).
"""

import gc
import io
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from urllib.parse import urlsplit

import cv2
import numpy as np
import pandas as pd
import pytest

from fexpr.recognizer import Recognizer
from tests.launching import ROOT, environment
from tests.recognizer.runs import FIXTURES
from tests.recognizer.test_video import film

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
skimage_data = pytest.importorskip("skimage.data")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing"),
    pytest.mark.filterwarnings("ignore"),  # of Gradio's own
]

# of the server: writes down whom it would connect to outside, and refuses
WATCH = """
import ipaddress, os, socket

real = socket.socket.connect

def connect(self, address):
    host = address[0] if isinstance(address, tuple) else "localhost"
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        with open(os.environ["CALLS"], "a") as f:
            f.write(f"{address}\\n")
        raise OSError("refused")
    return real(self, address)

def lookup(host, *rest, real=socket.getaddrinfo, **options):
    if host not in (None, "127.0.0.1", "localhost"):
        with open(os.environ["CALLS"], "a") as f:
            f.write(f"{host}\\n")
        raise socket.gaierror("refused")
    return real(host, *rest, **options)

socket.socket.connect, socket.getaddrinfo = connect, lookup
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A photo, a video, and what the webcam shows."""
    folder = tmp_path_factory.mktemp("files")
    photo = skimage_data.astronaut()[:384]
    frame = cv2.resize(photo, (640, 480))
    cv2.imwrite(str(folder / "photo.png"), photo[..., ::-1])
    cv2.imwrite(str(folder / "sixteen.png"), np.uint16(photo[..., ::-1]) * 257)
    (folder / "text.jpg").write_text("hello")
    film(folder / "talk.avi", [np.roll(frame, i, axis=1) for i in range(10)])
    webcam = b"".join([cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes()] * 20)
    (folder / "webcam.mjpeg").write_bytes(webcam)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of the page, and the file with the calls of its server."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "sitecustomize.py").write_text(WATCH)
    calls, said = folder / "calls", folder / "said"
    path = f"{folder}:{ROOT}"
    env = environment(folder / "cache", PYTHONPATH=path, CALLS=str(calls), TMPDIR=str(folder))
    with said.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "fexpr", "app", "fer2013"], env=env, cwd=folder, stderr=stream
        )
        try:
            until = time.monotonic() + 200
            while not (found := re.search(r"page +(\S+)", said.read_text())):
                assert process.poll() is None, said.read_text()
                assert time.monotonic() < until
                time.sleep(0.2)
            yield found[1], calls
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, said.read_text()
            assert not list(folder.glob("fexpr_app_*"))  # uploads are deleted
        finally:
            process.kill()


@pytest.fixture
def page(server, files):
    """A page that may load nothing from elsewhere."""
    address, calls = server
    options = ["--no-sandbox", "--use-fake-ui-for-media-stream"]
    options += ["--use-fake-device-for-media-stream"]
    options += [f"--use-file-for-fake-video-capture={files / 'webcam.mjpeg'}"]
    asked = []
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=options)
        opened = browser.new_page(viewport={"width": 1280, "height": 1100})
        opened.set_default_timeout(100_000)
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(address)
        yield opened
        browser.close()
    hosts = {urlsplit(url).netloc for url in asked if url.startswith(("http", "ws"))}
    assert hosts == {urlsplit(address).netloc}
    assert not calls.exists(), calls.read_text()


def give(page, part, path):
    page.set_input_files(f"#{part} input[type=file]", str(path))


def taken_away(page, part):
    with page.expect_download() as download:
        page.click(f"#{part} a")
    return pd.read_csv(io.BytesIO(download.value.path().read_bytes()))


@pytest.mark.parametrize("name", ["photo.png", "sixteen.png"])
def test_from_a_photo_to_its_table(page, files, name):
    give(page, "photo", files / name)
    page.wait_for_selector("#photo-bars h3")
    table = taken_away(page, "photo-csv")
    expected = Recognizer.pretrained("fer2013").predict([files / name], fit="face")
    assert table["image"].tolist() == [name]
    np.testing.assert_allclose(table["happy"], expected["happy"].astype(float), atol=1e-4)
    assert page.inner_text("#photo-bars h3") == f"Face 0: {expected['decision'].iloc[0]}"
    assert page.eval_on_selector("#photo-drawn img", "image => image.naturalWidth") > 512


def test_a_file_that_is_no_picture_is_a_message(page, files):
    give(page, "photo", files / "text.jpg")
    page.wait_for_selector("text=text.jpg is not a picture that can be read")


def test_the_webcam(page):
    page.get_by_role("tab", name="Webcam").click()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_text("Record").first.click()
    page.wait_for_selector("#webcam-bars h3")
    page.wait_for_timeout(2000)
    page.click("#webcam-save")
    page.wait_for_selector("#webcam-csv a")
    assert set(taken_away(page, "webcam-csv")["face"]) == {0}


def test_from_a_video_to_its_timeline(page, files):
    page.get_by_role("tab", name="Video").click()
    give(page, "video", files / "talk.avi")
    page.wait_for_selector("#video >> text=talk.avi")
    page.click("#video-start")
    page.wait_for_selector("#video-bars h3")
    assert "mean log odds over 10 rows" in page.inner_text("#video-bars")
    page.wait_for_selector("#video-line svg, #video-line canvas")
    table = taken_away(page, "video-csv")
    assert table["frame"].tolist() == list(range(10))


def test_a_run_on_flow_has_the_video_alone(tmp_path):
    from fexpr.app import interface

    warnings.simplefilter("ignore", ResourceWarning)  # Gradio leaves event loops open
    page = interface.build(Recognizer.restore(FIXTURES / "run_format_1.zip"), tmp_path)
    parts = [block for block in page.blocks.values() if isinstance(block, interface.gr.Tab)]
    assert [tab.label for tab in parts] == ["Video"]
    del page, parts
    gc.collect()
