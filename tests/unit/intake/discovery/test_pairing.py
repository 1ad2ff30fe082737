import time
import unicodedata
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna_pipeline.base.errors import (
    ImageMissing,
    PathEscapesInbox,
    SidecarAmbiguous,
    SidecarInvalid,
    SidecarMissing,
)
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.candidates import Candidate, Pairing, References, Waiting
from dna_pipeline.intake.discovery.names import is_sidecar_of
from dna_pipeline.intake.discovery.pairing import pair
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.discovery.stability import StabilityTracker
from dna_pipeline.intake.discovery.waits import LONGEST_RESTART_S

SETTLE = 2
WAIT = 5
HOUR = 3600
E_NFC = unicodedata.normalize("NFC", "é")
E_NFD = unicodedata.normalize("NFD", "é")


class Folder:
    """An inbox without files: what is there, what its job files name, and a clock."""

    def __init__(self, *paths: str, names=None, **options) -> None:
        settings = {"settle_s": SETTLE, "sidecar_wait_s": WAIT} | options
        self.inbox = Inbox(name="in", path=Path("in"), pipeline="p", **settings)
        self.tracker = StabilityTracker(self.inbox.settle_s)
        self.names = names or {}
        self.asked: list[str] = []
        self.files: dict[str, FileStat] = {}
        self.now = 0.0
        self.put(*paths)
        self.look()

    def put(self, *paths: str) -> None:
        for path in paths:
            version = self.files[path].mtime_ns + 1 if path in self.files else 0
            self.files[path] = FileStat(1, version, version, 1, 1)

    def look(self, after: float = 0) -> None:
        self.now += after
        self.tracker.observe(self.files, self.now)

    def image_of(self, path: str):
        self.asked.append(path)
        return self.names.get(path)

    def pair(self, after: float = 0, looked_for: Collection[str] | None = None) -> Pairing:
        self.look(after)
        return pair(self.inbox, list(self.files), self.tracker, self.image_of, looked_for)


def drops(pairing: Pairing) -> list[tuple]:
    return [(c.image, c.sidecar, type(c.error) if c.error else None) for c in pairing.ready]


def waits(pairing: Pairing) -> dict[str, Waiting]:
    return {w.path: w for w in pairing.waiting}


def test_nothing_is_ready_before_it_settled() -> None:
    folder = Folder("cat.png", "cat.yaml")
    first = folder.pair(1)
    assert first.ready == []
    assert waits(first)["cat.png"] == Waiting("cat.png", "still being written", 2, False, "writing")
    assert folder.asked == []
    assert drops(folder.pair(1)) == [("cat.png", "cat.yaml", None)]
    assert folder.asked == ["cat.yaml"]


@pytest.mark.parametrize(
    ("image", "sidecar"),
    [
        ("cat.png", "cat.yaml"),
        ("cat.png", "cat.yml"),
        ("cat.png", "cat.png.yaml"),
        ("cat.png", "cat.png.yml"),
        ("cat.PNG", "cat.YAML"),
        ("cat.PNG", "cat.png.Yaml"),
        ("x/cat.v2.png", "x/cat.v2.yaml"),
        ("cat.png.jpg", "cat.png.yaml"),
        (f"{E_NFC}.png", f"{E_NFD}.yaml"),
        (f"{E_NFD}.png", f"{E_NFC}.png.yaml"),
    ],
)
def test_a_sidecar_by_its_name(image: str, sidecar: str) -> None:
    assert drops(Folder(image, sidecar).pair(SETTLE)) == [(image, sidecar, None)]
    assert is_sidecar_of(sidecar, image)


@pytest.mark.parametrize(
    ("image", "sidecar"),
    [
        ("cat.png", "x/cat.yaml"),
        ("x/cat.png", "cat.yaml"),
        ("cat.png", "cat.jpg.yaml"),
        ("cat.png", "cat.png.txt.yaml"),
        ("cat1.png", "cat.yaml"),
    ],
)
def test_no_sidecar_by_its_name(image: str, sidecar: str) -> None:
    pairing = Folder(image, sidecar).pair(SETTLE)
    assert pairing.ready == []
    assert waits(pairing)[sidecar].kind == "image"
    assert waits(pairing)[image].kind == "sidecar"
    assert not is_sidecar_of(sidecar, image)


@pytest.mark.parametrize(
    "names", [References(("sub/a.png",), waits_long=False), References(("sub/a.png",))]
)
def test_nothing_is_missing_before_it_was_looked_for(names: References) -> None:
    """However late the round is: the waits may have passed while the inbox was away."""
    teller = "all.yaml" if names.waits_long else "shots.csv"
    folder = Folder(teller, names={teller: names}, sidecar_wait_s=0)
    first = folder.pair(2 * HOUR, looked_for=())
    assert (first.ready, first.referenced) == ([], {"sub/a.png"})
    assert waits(first)[teller].until == folder.now
    (decided,) = folder.pair(0, looked_for=first.referenced).ready
    assert (decided.table or decided.sidecar, decided.images) == (teller, ())


def test_a_job_file_of_one_image_has_it_looked_for_first() -> None:
    folder = Folder("all.yaml", names={"all.yaml": "sub/a.png"})
    first = folder.pair(2 * HOUR, looked_for=())
    assert first.ready == []
    assert waits(first)["all.yaml"].kind != "image", "it would be taken for a late sidecar"
    assert drops(folder.pair(0, looked_for=first.referenced)) == [(None, "all.yaml", ImageMissing)]


def test_a_pair_waits_for_its_second_half_to_settle() -> None:
    folder = Folder("cat.png")
    folder.look(1)
    folder.put("cat.yaml")
    folder.look(0.5)
    waiting = waits(folder.pair(1))
    assert waiting["cat.png"].reason == "waits for cat.yaml, which is still being written"
    assert waiting["cat.png"].until == waiting["cat.yaml"].until == 3.5
    assert not waiting["cat.png"].is_long
    assert drops(folder.pair(1)) == [("cat.png", "cat.yaml", None)]


def test_a_lone_image_waits_for_a_sidecar_from_the_moment_it_settled() -> None:
    folder = Folder("cat.png")
    (waiting,) = folder.pair(SETTLE).waiting
    assert waiting == Waiting("cat.png", "waits 5 s for a sidecar", SETTLE + WAIT, False, "sidecar")
    assert folder.pair(WAIT - 0.5).ready == []
    assert drops(folder.pair(0.5)) == [("cat.png", None, None)]


def test_the_wait_begins_again_while_the_folder_changes() -> None:
    folder = Folder("cat.png", "x/other.png")
    folder.look(SETTLE)
    folder.put("x/more.png")
    assert waits(folder.pair(4))["cat.png"].until == SETTLE + WAIT
    folder.put("dog.png")
    assert waits(folder.pair(0.5))["cat.png"].until == 6.5 + WAIT
    del folder.files["dog.png"]
    assert waits(folder.pair(1))["cat.png"].until == 7.5 + WAIT
    assert ("cat.png", None, None) in drops(folder.pair(WAIT))


@pytest.mark.slow
def test_an_endless_stream_does_not_starve_its_images() -> None:
    folder = Folder("0.png")
    taken_at = None
    for number in range(1, 400):
        folder.put(f"{number}.png")
        ready = folder.pair(1).ready
        if taken_at is None and any(c.image == "0.png" for c in ready):
            taken_at = folder.now
    assert taken_at == SETTLE + WAIT + LONGEST_RESTART_S


def test_no_sidecar_wait() -> None:
    assert drops(Folder("cat.png", sidecar_wait_s=0).pair(SETTLE)) == [("cat.png", None, None)]


def test_a_required_sidecar_that_does_not_come() -> None:
    folder = Folder("cat.png", sidecar_required=True, sidecar_wait_s=3600.0)
    (waiting,) = folder.pair(SETTLE).waiting
    assert waiting.is_long
    assert waiting.reason == "waits 3600 s for a sidecar, which this inbox requires"
    assert folder.pair(HOUR - 1).ready == []
    assert drops(folder.pair(1)) == [("cat.png", None, SidecarMissing)]


def test_a_sidecar_whose_image_does_not_come() -> None:
    folder = Folder("cat.yaml")
    (waiting,) = folder.pair(SETTLE).waiting
    assert waiting.reason == "waits for an image called cat"
    assert waiting.is_long
    assert waiting.until == SETTLE + HOUR
    assert folder.pair(HOUR - 1).ready == []
    (candidate,) = folder.pair(1).ready
    assert (candidate.image, candidate.sidecar) == (None, "cat.yaml")
    assert isinstance(candidate.error, ImageMissing)
    assert candidate.error.detail == "waited an hour for an image called cat"


def test_a_yaml_for_two_images_tells_neither() -> None:
    pairing = Folder("cat.png", "cat.jpg", "cat.yaml").pair(SETTLE)
    assert drops(pairing) == [
        ("cat.jpg", "cat.yaml", SidecarAmbiguous),
        ("cat.png", "cat.yaml", SidecarAmbiguous),
    ]
    assert str(pairing.ready[0].error) == "cat.yaml could tell cat.jpg, cat.png"


def test_ambiguity_is_judged_when_all_have_settled() -> None:
    folder = Folder("cat.png", "cat.yaml")
    folder.put("cat.jpg")
    pairing = folder.pair(SETTLE)
    assert pairing.ready == []
    reason = "waits for cat.jpg, which is still being written"
    assert waits(pairing)["cat.png"].reason == waits(pairing)["cat.yaml"].reason == reason
    assert len(folder.pair(SETTLE).ready) == 2


def test_an_exact_sidecar_leaves_the_stem_to_the_other() -> None:
    folder = Folder("cat.png", "cat.jpg", "cat.yaml", "cat.png.yaml")
    assert set(drops(folder.pair(SETTLE))) == {
        ("cat.png", "cat.png.yaml", None),
        ("cat.jpg", "cat.yaml", None),
    }


def test_of_two_sidecars_the_nearer_tells_and_the_other_waits() -> None:
    pairing = Folder("cat.png", "cat.png.yml", "cat.yaml", "cat.yml").pair(SETTLE)
    assert drops(pairing) == [("cat.png", "cat.png.yml", None)]
    assert set(waits(pairing)) == {"cat.yaml", "cat.yml"}
    pairing = Folder("cat.png", "cat.yml", "cat.yaml").pair(SETTLE)
    assert drops(pairing) == [("cat.png", "cat.yaml", None)]


def test_unicode_twins_each_find_their_own() -> None:
    paths = [f"{e}.{kind}" for e in (E_NFC, E_NFD) for kind in ("png", "yaml")]
    assert set(drops(Folder(*paths).pair(SETTLE))) == {
        (f"{E_NFC}.png", f"{E_NFC}.yaml", None),
        (f"{E_NFD}.png", f"{E_NFD}.yaml", None),
    }


def test_names_alike_in_all_but_the_case_of_the_extension() -> None:
    folder = Folder("cat.png", "cat.PNG", "cat.PNG.yaml")
    folder.look(SETTLE)
    assert set(drops(folder.pair(WAIT))) == {
        ("cat.PNG", "cat.PNG.yaml", None),
        ("cat.png", None, None),
    }


def test_a_job_file_speaks_for_its_image() -> None:
    names = {"tonight.yaml": "cat.png"}
    folder = Folder("tonight.yaml", "cat.png", "cat.yaml", "cat.jpg", names=names)
    pairing = folder.pair(SETTLE)
    assert set(drops(pairing)) == {
        ("cat.png", "tonight.yaml", None),
        ("cat.jpg", "cat.yaml", None),
    }
    assert pairing.referenced == {"cat.png"}


def test_a_yaml_of_the_images_name_that_names_another() -> None:
    folder = Folder("cat.yaml", "cat.png", "dog.png", names={"cat.yaml": "./dog.png"})
    pairing = folder.pair(SETTLE)
    assert drops(pairing) == [("dog.png", "cat.yaml", None)]
    assert waits(pairing)["cat.png"].kind == "sidecar"


def test_a_job_files_path_is_relative_to_it() -> None:
    names = {"x/job.yaml": "y/cat.png"}
    folder = Folder("x/job.yaml", "x/y/cat.png", "y/cat.png", names=names)
    assert drops(folder.pair(SETTLE)) == [("x/y/cat.png", "x/job.yaml", None)]
    names = {"job.yaml": f"{E_NFC}.PNG"}
    folder = Folder("job.yaml", f"{E_NFD}.png", names=names)
    assert drops(folder.pair(SETTLE)) == [(f"{E_NFD}.png", "job.yaml", None)]


def test_a_job_file_means_the_very_name_if_it_is_there() -> None:
    folder = Folder("job.yaml", "cat.PNG", "cat.png", names={"job.yaml": "cat.png"})
    assert drops(folder.pair(SETTLE)) == [("cat.png", "job.yaml", None)]


def test_a_job_file_waits_an_hour_for_its_image() -> None:
    folder = Folder("x/job.yaml", names={"x/job.yaml": "cat.png"})
    (waiting,) = folder.pair(SETTLE).waiting
    assert waiting.reason == "waits for x/cat.png, which its image: key names"
    assert (waiting.is_long, waiting.kind) == (True, "image")
    folder.look(HOUR - 1)
    assert drops(folder.pair(1)) == [(None, "x/job.yaml", ImageMissing)]


def test_a_job_file_waits_for_an_image_that_is_being_written() -> None:
    folder = Folder("job.yaml", names={"job.yaml": "cat.png"})
    folder.look(HOUR)
    folder.put("cat.png")
    folder.look(1)
    waiting = waits(folder.pair(1))
    assert waiting["job.yaml"].reason == "waits for cat.png, which is still being written"
    assert drops(folder.pair(1)) == [("cat.png", "job.yaml", None)]


def test_two_job_files_for_one_image() -> None:
    names = {"a.yaml": "cat.png", "b.yaml": "cat.png"}
    pairing = Folder("a.yaml", "b.yaml", "cat.png", names=names).pair(SETTLE)
    assert drops(pairing) == [("cat.png", "a.yaml", None)]
    assert waits(pairing)["b.yaml"].reason == "waits for cat.png, which a.yaml takes"
    pairing = Folder("a.yaml", "b.yaml", "cat.png", names=names, originals="keep").pair(SETTLE)
    assert drops(pairing) == [("cat.png", "a.yaml", None), ("cat.png", "b.yaml", None)]


@pytest.mark.parametrize(
    "text",
    ["../cat.png", "/etc/passwd", "x/../../cat.png", "C:cat.png", "..\\a.png", "~/a.png", ""],
)
def test_a_path_that_leaves_the_inbox_fails_at_once(text: str) -> None:
    folder = Folder("cat.yaml", "cat.png", names={"cat.yaml": text})
    pairing = folder.pair(SETTLE)
    assert drops(pairing) == [("cat.png", "cat.yaml", PathEscapesInbox)]
    assert waits(pairing) == {}
    assert pairing.referenced == frozenset()


def test_an_escape_that_the_caller_found() -> None:
    error = PathEscapesInbox("told before")
    pairing = Folder("cat.yaml", names={"cat.yaml": error}).pair(SETTLE)
    assert pairing.ready == [Candidate(None, "cat.yaml", error)]


def test_a_yaml_that_cannot_be_read() -> None:
    error = SidecarInvalid("line 3")
    names = {"cat.yaml": error}
    pairing = Folder("cat.yaml", "cat.png", names=names).pair(SETTLE)
    assert pairing.ready == [Candidate("cat.png", "cat.yaml", error)]
    alone = Folder("cat.yaml", names=names)
    assert waits(alone.pair(SETTLE))["cat.yaml"].kind == "image"
    assert alone.pair(HOUR).ready == [Candidate(None, "cat.yaml", error)]


def test_ready_comes_in_the_order_of_arrival() -> None:
    folder = Folder("z.png", "z.yaml")
    folder.look(1)
    folder.put("a.png", "a.yaml")
    folder.look(0)
    folder.look(1)
    folder.put("m.yaml", "m.png")
    folder.look(0)
    assert [c.image for c in folder.pair(3).ready] == ["z.png", "a.png", "m.png"]


def test_long_waits_are_told_from_short_ones() -> None:
    assert waits(Folder("a.png", settle_s=61.0).pair())["a.png"].is_long
    assert not waits(Folder("a.png", settle_s=60.0).pair())["a.png"].is_long
    assert waits(Folder("a.png", sidecar_wait_s=61.0).pair(SETTLE))["a.png"].is_long
    assert not waits(Folder("a.png", sidecar_wait_s=60.0).pair(SETTLE))["a.png"].is_long


def test_when_to_pair_again() -> None:
    folder = Folder("a.png", "b.yaml")
    assert folder.pair(1).next_at == SETTLE
    assert folder.pair(1).next_at == SETTLE + WAIT
    assert folder.pair(WAIT).next_at == SETTLE + HOUR
    assert Folder().pair().next_at is None


@pytest.mark.slow
def test_twenty_thousand_files_take_no_time() -> None:
    images = [f"{number}.png" for number in range(10_000)]
    sidecars = [f"{number}.yaml" for number in range(5_000)]
    jobs = [f"j{number}.yaml" for number in range(5_000)]
    names = {job: images[5_000 + number] for number, job in enumerate(jobs)}
    folder = Folder(*images, *sidecars, *jobs, "orphan.yaml", names=names)
    folder.look(SETTLE)
    began = time.process_time()
    assert len(folder.pair().ready) == 10_000
    assert time.process_time() - began < 3


STEMS = ["a", "b", E_NFC, E_NFD, "x/a"]
NAMES = st.sampled_from(
    [f"{stem}{rest}" for stem in STEMS for rest in (".png", ".PNG", ".jpg", ".yaml", ".yml")]
    + [f"{stem}{rest}" for stem in STEMS for rest in (".png.yaml", ".png.yml", ".jpg.yaml")]
)
ANSWERS = st.sampled_from(
    [None, None, None, "a.png", "x/a.png", f"{E_NFC}.png", "none.png", "../a.png", SidecarInvalid()]
)
FOLDERS = st.dictionaries(NAMES, ANSWERS, max_size=12)


def as_sets(pairing: Pairing) -> tuple:
    return set(drops(pairing)), set(pairing.waiting)


@pytest.mark.slow
@given(files=FOLDERS, late=st.sets(NAMES), order=st.randoms(use_true_random=False))
def test_each_file_is_in_one_place_and_ready_means_settled(files, late, order) -> None:
    folder = Folder(*(path for path in files if path not in late), names=files)
    folder.put(*(path for path in files if path in late))
    pairing = folder.pair(SETTLE)
    places: Counter[str] = Counter(waiting.path for waiting in pairing.waiting)
    for candidate in pairing.ready:
        for path in (candidate.image, candidate.sidecar):
            if path is not None:
                places[path] += 1
                assert folder.tracker.is_settled(path)
    for path in files:
        shared = any(
            c.sidecar == path and isinstance(c.error, SidecarAmbiguous) for c in pairing.ready
        )
        assert places[path] > 1 if shared else places[path] == 1, path
    assert set(places) == set(files)
    shuffled = list(files)
    order.shuffle(shuffled)
    again = pair(folder.inbox, shuffled, folder.tracker, folder.image_of)
    assert as_sets(again) == as_sets(pairing)


@pytest.mark.slow
@given(files=FOLDERS, order=st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(files, order) -> None:
    at_once = Folder(*files, names=files)
    at_once.look(1)
    shuffled = list(files)
    order.shuffle(shuffled)
    one_by_one = Folder(names=files)
    for path in shuffled:
        one_by_one.put(path)
        one_by_one.look(1)
    assert set(drops(at_once.pair(2 * HOUR))) == set(drops(one_by_one.pair(2 * HOUR)))
    assert at_once.pair().waiting == []


def test_of_two_yamls_the_same_one_tells_a_table_as_an_image() -> None:
    for told in ("shots.csv", "cat.png"):
        yamls = f"{told}.yml", f"{told}.yaml"
        pairing = Folder(told, *yamls, names={"shots.csv": References(waits_long=False)}).pair(
            HOUR - 1
        )
        assert [(c.sidecar, c.error) for c in pairing.ready] == [(f"{told}.yaml", None)]
        assert set(waits(pairing)) == {f"{told}.yml"}


def test_a_render_pass_is_not_taken_in_by_itself() -> None:
    images = ("Image0001.exr", "Depth0001.exr", "chair_normal.png", "sub/chair.png")
    folder = Folder(*images, "sub/chair_normal.png", recursive=True)
    found = folder.pair(SETTLE + WAIT)
    taken = {path for candidate in found.ready for path in candidate.paths}
    assert taken == {"Image0001.exr", "chair_normal.png", "sub/chair.png"}
    waiting = waits(found)
    assert set(waiting) == {"Depth0001.exr", "sub/chair_normal.png"}
    assert waiting["Depth0001.exr"].reason == (
        "looks like a render pass (depth), not a picture; to have it taken in, rename it, or name "
        "it in a job file, a table or a YAML of its own"
    )
    assert all(w.kind == "pass" and w.is_long and w.until is None for w in waiting.values())
    assert found.next_at is None, "a one-shot run does not wait for it"


def test_a_render_pass_that_still_grows_is_said_to_be_written() -> None:
    folder = Folder("Depth0001.exr")
    assert waits(folder.pair(1))["Depth0001.exr"].kind == "writing"
    assert waits(folder.pair(1))["Depth0001.exr"].kind == "pass"


def test_a_render_pass_waits_in_an_inbox_that_requires_sidecars_too() -> None:
    folder = Folder("Depth0001.exr", sidecar_required=True)
    assert [w.kind for w in folder.pair(SETTLE + HOUR).waiting] == ["pass"]


@pytest.mark.parametrize("sidecar", ["Depth0001.yaml", "Depth0001.exr.yml"])
def test_a_render_pass_with_a_sidecar_of_its_own_is_a_picture(sidecar: str) -> None:
    folder = Folder("Depth0001.exr", sidecar)
    assert drops(folder.pair(SETTLE)) == [("Depth0001.exr", sidecar, None)]


def test_a_render_pass_that_a_job_file_or_a_table_names_is_a_picture() -> None:
    names = {
        "a.yaml": "Depth0001.exr",
        "b.yaml": References(("Normal0001.png",)),
        "c.csv": References(("AO0001.png",), waits_long=False),
        "d.yaml": References(patterns=("masks/*.png",)),
    }
    images = ("Depth0001.exr", "Normal0001.png", "AO0001.png", "masks/chair.mask.png")
    folder = Folder(*images, *names, names=names, recursive=True)
    found = folder.pair(SETTLE + WAIT)
    assert found.waiting == []
    taken = {path for candidate in found.ready for path in candidate.paths}
    assert taken == {*images, *names}
