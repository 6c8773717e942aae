"""Several objects an image: measuring, kinds of error, drawing, files for other programs."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tlkit.data.annotations import Annotations, Box
from tlkit.errors import DataError
from tlkit.evaluate.detection_files import CocoResults, YoloText
from tlkit.reporting.html import _part
from tlkit.tasks.box_drawing import INK, TRUE_INK
from tlkit.tasks.detection_ap import ap50, match
from tlkit.tasks.detection_drawing import class_ink, draw_boxes
from tlkit.tasks.detection_errors import ERRORS, KINDS
from tlkit.tasks.detection_evaluator import DetectedObjects
from tlkit.tasks.detection_metrics import (
    ap50_statistic,
    assess,
    chosen_thresholds,
    detection_headline,
    precision_and_recall,
)
from tlkit.tasks.detection_reports import detection_figures, detection_parts
from tlkit.tasks.detections import Found, TrueObjects, true_objects

NAMES = ("ant", "bee", "cat")
HEIGHT, WIDTH = 240, 320


def detection_metrics(*data):
    return assess(*data).metrics()


def truth(*objects, aside=(), crowd=()):
    """Return the truth of an image of (class, x1, y1, x2, y2); those at places `aside` do not
    count, those at `crowd` are crowds as well."""
    rows = np.array(objects, np.float32).reshape(-1, 5)
    places = np.arange(len(rows))
    return TrueObjects(
        rows[:, 1:], rows[:, 0].astype(np.int64), np.isin(places, [*aside, *crowd]),
        HEIGHT, WIDTH, np.isin(places, crowd),
    )  # fmt: skip


def answers(*rows):
    """Return answers (class, score, x1, y1, x2, y2), best first."""
    rows = np.array(rows, np.float32).reshape(-1, 6)
    rows = rows[np.argsort(-rows[:, 1], kind="stable")]
    return Found(rows[:, 2:], rows[:, 1], rows[:, 0].astype(np.int64))


def generated(images=12, seed=0, objects=6):
    """Return truths and answers that are changed truths: moved, dropped, doubled, of another class,
    on nothing; some images are empty."""
    random = np.random.default_rng(seed)
    truths, found = [], []
    for i in range(images):
        count = 0 if i % 4 == 3 else int(random.integers(1, objects + 1))
        low = random.uniform(0, (WIDTH - 130, HEIGHT - 130), (count, 2))
        boxes = np.concatenate([low, low + random.uniform(8, 125, (count, 2))], axis=1)
        classes = random.integers(0, 3, count)
        truths.append(truth(*np.column_stack([classes, boxes])))
        rows = []
        for name, box in zip(classes, boxes, strict=True):
            for _ in range(int(random.choice([0, 1, 2], p=[0.1, 0.7, 0.2]))):
                near = box + random.normal(0, 5, 4)
                near[2:] = np.maximum(near[2:], near[:2] + 2)
                other = int(random.integers(0, 3)) if random.random() < 0.2 else name
                rows.append((other, round(random.uniform(0.2, 1), 2), *near))
        for _ in range(int(random.integers(0, 4))):
            x, y = random.uniform(0, 200, 2)
            rows.append((int(random.integers(0, 3)), random.uniform(0, 0.6), x, y, x + 30, y + 20))
        found.append(answers(*rows))
    return truths, found


@pytest.fixture(scope="module")
def data():
    return generated()


def coco_stats(truths, found):
    """Return COCO's twelve numbers and its precision, by pycocotools called as its demo does."""
    box = lambda b: [float(b[0]), float(b[1]), *(float(x) for x in b[2:].astype(float) - b[:2])]  # noqa: E731, RUF100
    rows = [
        {"image_id": i, "category_id": int(k), "bbox": box(b), "iscrowd": 0}
        for i, own in enumerate(truths)
        for b, k in zip(own.boxes, own.classes, strict=True)
    ]
    for n, row in enumerate(rows, start=1):
        row |= {"id": n, "area": row["bbox"][2] * row["bbox"][3]}
    results = [
        {"image_id": i, "category_id": int(k), "bbox": box(b), "score": float(s)}
        for i, own in enumerate(found)
        for b, s, k in zip(*own, strict=True)
    ]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(len(truths))],
        "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES)],
        "annotations": rows,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats, evaluation.eval["precision"][..., 0, 2]


# Average precision


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools(seed, capsys):
    truths, found = generated(seed=seed)
    metrics = detection_metrics(truths, found, NAMES)
    stats, precision = coco_stats(truths, found)
    keys = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    for key, expected in zip(keys, stats[:6], strict=True):
        expected = None if expected == -1 else pytest.approx(expected, abs=1e-9)
        assert metrics[key] == expected, key
    for k, own in enumerate(metrics["per_class"].values()):
        assert own["ap"] == pytest.approx(precision[:, :, k].mean(), abs=1e-9)
        assert own["ap50"] == pytest.approx(precision[0, :, k].mean(), abs=1e-9)
    assert ap50(truths, found, 3) == metrics["ap50"]
    assert 0.3 < metrics["ap50"] < 0.95, "an easy or hopeless set tells nothing"
    assert capsys.readouterr().out == ""


def slow_iou(a, b):
    wide, high = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    both = max(0.0, wide) * max(0.0, high)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return both / (sum(areas) - both)


def slow_ap(truths, found, k, threshold):
    """Return the average precision of a class, written from its definition: an answer that finds no
    object that counts, but one that does not, is as if it were not there."""
    flags, objects = [], 0
    for true, own in zip(truths, found, strict=True):
        here = true.classes == k
        free = list(true.boxes[here & ~true.aside].astype(float))
        aside = list(true.boxes[here & true.aside].astype(float))
        objects += len(free)
        for box, score, c in zip(*own, strict=True):
            if c == k:
                ious = [slow_iou(box.astype(float), b) for b in free]
                hit = bool(ious) and max(ious) >= threshold
                if hit:
                    free.pop(int(np.argmax(ious)))
                if hit or all(slow_iou(box.astype(float), b) < threshold for b in aside):
                    flags.append((float(score), hit))
    flags.sort(key=lambda f: -f[0])
    hits, points = 0, []
    for n, (_, hit) in enumerate(flags, start=1):
        hits += hit
        points.append((hits / objects, hits / n))
    best = [max((p for r, p in points if r >= x), default=0.0) for x in np.linspace(0, 1, 101)]
    return float(np.mean(best))


@pytest.mark.parametrize("difficult", [0, 0.3])
def test_average_precision_is_that_of_its_definition(difficult):
    random, (truths, found) = np.random.default_rng(3), generated(8, objects=16)
    truths = [t._replace(aside=random.random(len(t.aside)) < difficult) for t in truths]
    metrics = detection_metrics(truths, found, NAMES)
    at = [[slow_ap(truths, found, k, t) for t in np.linspace(0.5, 0.95, 10)] for k in range(3)]
    for own, expected in zip(metrics["per_class"].values(), at, strict=True):
        assert own["ap50"] == pytest.approx(expected[0], abs=1e-9)
        assert own["ap"] == pytest.approx(np.mean(expected), abs=1e-9)
    assert metrics["ap"] == pytest.approx(np.mean(at), abs=1e-9)
    assert ("difficult_left_out" in metrics) == (difficult > 0)


BOX = (0, 10, 10, 60, 60)


@pytest.mark.parametrize(
    ("rows", "right", "kinds"),
    [
        ([(0, 0.9, 10, 10, 60, 60)], 0, ["aside"]),
        ([(0, 0.9, 10, 10, 60, 60), (0, 0.8, 12, 12, 62, 62)], 0, ["aside", "aside"]),
        ([(0, 0.9, 20, 20, 40, 40)], 0, ["place"]),  # small and inside: an IoU of 0.16 finds none
        ([(0, 0.9, 102, 102, 152, 152)], 1, ["right"]),
    ],
)
def test_what_finds_a_difficult_object_is_neither_right_nor_wrong(rows, right, kinds):
    """PASCAL VOC's rule. pycocotools alone takes it for a crowd, in which any small box lies."""
    truths = [truth(BOX, (0, 100, 100, 150, 150), aside=[0])]
    found = assess(truths, [answers(*rows)], NAMES, (0, 0, 0))
    assert [KINDS[k] for k in found.kinds.kind] == kinds
    assert found.matches.right.sum() == right
    metrics = found.metrics()
    assert (metrics["objects"], metrics["difficult_left_out"]) == (1, 1)
    assert metrics["errors"]["missed"] == 1 - right
    assert metrics["ap50"] == pytest.approx(right)


def test_any_box_inside_a_crowd_finds_it():
    truths = [truth(BOX, (0, 100, 100, 150, 150), crowd=[0])]
    rows = [(0, 0.9, 20, 20, 40, 40), (0, 0.8, 15, 15, 30, 30), (0, 0.7, 100, 100, 150, 150)]
    metrics = detection_metrics(truths, [answers(*rows)], NAMES)
    assert metrics["ap50"] == pytest.approx(1)
    assert metrics["errors"]["background"] == 0


def test_a_crowd_beside_a_difficult_object_stays_a_crowd():
    far = (0, 200, 100, 260, 160)
    truths = [truth(BOX, ONE, far, aside=[2], crowd=[0])]
    rows = [(0, 0.9, 20, 20, 40, 40), (0, 0.8, 210, 110, 230, 130), (0, 0.7, 100, 100, 160, 160)]
    found = assess(truths, [answers(*rows)], NAMES, (0, 0, 0))
    assert [KINDS[k] for k in found.kinds.kind] == ["aside", "place", "right"]
    assert found.averages["ap50"] == pytest.approx(0.5)


def numbers_of(value):
    """Return all numbers in nested metrics."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [n for x in value for n in numbers_of(x)]
    return [] if value is None or isinstance(value, str) else [value]


EMPTY = {
    "no images": ([], []),
    "nothing": ([truth()] * 3, [answers()] * 3),
    "no answers": ([truth(BOX)] * 2, [answers()] * 2),
    "no objects": ([truth()] * 2, [answers((1, 0.7, 0, 0, 9, 9))] * 2),
    "difficult alone": ([truth(BOX, aside=[0])] * 2, [answers((0, 0.5, 10, 10, 60, 60))] * 2),
}


@pytest.mark.parametrize("case", EMPTY)
def test_what_is_not_there_is_null_and_never_minus_one(case):
    truths, found = EMPTY[case]
    metrics = detection_metrics(truths, found, NAMES)
    json.dumps(metrics, allow_nan=False)
    assert min(numbers_of(metrics)) >= 0
    assert metrics["examples"] == len(truths)
    there = case == "no answers"
    assert metrics["ap"] == metrics["ap50"] == (0 if there else None)
    assert ap50(truths, found, 3) == metrics["ap50"]
    assert metrics["ap_large"] is None
    assert metrics["ap50_interval95"] == ([0, 0] if there else None)
    first = metrics["per_class"]["ant"]
    assert (first["recall"], first["precision"]) == (0 if there else None, None)
    assert [own["threshold"] for own in metrics["per_class"].values()] == [0.5] * 3
    assert metrics["errors"]["missed"] == (2 if there else 0)
    assert metrics["errors"]["background"] == (2 if case == "no objects" else 0)
    assert detection_headline(metrics).startswith("AP50 0.000" if there else "AP50 -, AP -")
    assert detection_figures(metrics)[0].value == metrics["ap50"]


def test_changing_the_order_of_classes_changes_nothing_but_their_order(data):
    truths, found = data
    order = np.array([2, 0, 1])  # new place of each class
    names = [NAMES[i] for i in np.argsort(order)]
    other = detection_metrics(
        [t._replace(classes=order[t.classes]) for t in truths],
        [f._replace(classes=order[f.classes]) for f in found],
        names,
    )
    metrics = detection_metrics(truths, found, NAMES)
    places = [*np.argsort(order), 3]
    assert np.array(metrics["confusion"])[np.ix_(places, places)].tolist() == other["confusion"]
    ends = metrics.pop("ap50_interval95"), other.pop("ap50_interval95")
    assert ends[0] == pytest.approx(ends[1])
    for key in ("ap", "ap50", "ap75", "ap_small", "ap_medium"):
        assert metrics.pop(key) == pytest.approx(other.pop(key))
    del metrics["confusion"], other["confusion"]
    assert metrics == other


def test_objects_that_no_answer_can_find_are_said():
    boxes = [(0, 3.0 * i, 0, 3.0 * i + 2, 2) for i in range(104)]
    found = answers(*((0, 0.9 - i / 1000, *box[1:]) for i, box in enumerate(boxes)))
    metrics = detection_metrics([truth(*boxes)], [found], NAMES)
    assert metrics["beyond_limit"] == 4
    assert metrics["errors"] == dict.fromkeys(ERRORS[:-1], 0) | {"missed": 4}
    assert "4 of them cannot be found: 100 answers of a class" in detection_headline(metrics)
    assert metrics["ap50"] == pytest.approx(97 / 101)  # recalls 0 to 0.96


# Thresholds, errors, confusion, interval


def test_thresholds_have_the_best_f1_of_all(data):
    metrics = detection_metrics(*data, NAMES)
    thresholds = [own["threshold"] for own in metrics["per_class"].values()]
    assert thresholds == list(chosen_thresholds(*data, 3))
    scores = np.unique(np.concatenate([own.scores for own in data[1]]))
    every = [detection_metrics(*data, NAMES, [s] * 3)["per_class"] for s in scores[::2]]
    for name, own in metrics["per_class"].items():
        assert own["f1"] >= max(row[name]["f1"] or 0 for row in every)
        p, r = own["precision"], own["recall"]
        assert own["f1"] == pytest.approx(2 * p * r / (p + r))


def test_answers_of_one_score_are_accepted_together():
    truths = [truth(ONE, (0, 10, 10, 40, 40))]
    rows = [(0, 0.8, *ONE[1:]), (0, 0.4, 10, 10, 40, 40)]
    rows += [(0, 0.4, 200, 10 + i, 220, 30 + i) for i in range(5)]
    found = assess(truths, [answers(*rows)], NAMES)
    assert found.thresholds[0] == pytest.approx(0.6)  # F1 2/3; with the others 4/9
    assert found.metrics()["per_class"]["ant"]["f1"] == pytest.approx(2 / 3)
    precision, recall = precision_and_recall(found, 0)
    assert (precision.tolist(), recall.tolist()) == ([1, 2 / 7], [0.5, 1])


def test_thresholds_lie_between_scores_that_occur():
    rows = [(0, 0.9, 0, 0, 9, 9), (0, 0.5, 100, 100, 160, 160), (0, 0.25, 1, 1, 9, 9)]
    assert chosen_thresholds([truth(ONE)], [answers(*rows)], 3) == (0.375, 0.5, 0.5)
    assert chosen_thresholds([truth(ONE)], [answers(*rows[:2])], 3) == (0.25, 0.5, 0.5)


def test_given_thresholds_decide_what_is_accepted(data):
    none = detection_metrics(*data, NAMES, (1.1, 1.1, 1.1))
    assert none["errors"] == dict.fromkeys(ERRORS[:-1], 0) | {"missed": none["objects"]}
    assert all(own["precision"] is None for own in none["per_class"].values())
    assert none["ap50"] == detection_metrics(*data, NAMES)["ap50"]


ONE = (0, 100, 100, 160, 160)
ERROR_CASES = {
    "right": [(0, 0.9, 102, 102, 160, 160)],
    "class": [(1, 0.9, 100, 100, 160, 160)],
    "place": [(0, 0.9, 130, 100, 190, 160)],
    "both": [(1, 0.9, 130, 100, 190, 160)],
    "duplicate": [(0, 0.9, 100, 100, 160, 160), (0, 0.8, 101, 101, 160, 160)],
    "background": [(0, 0.9, 10, 10, 60, 60)],
    "below": [(0, 0.2, 100, 100, 160, 160)],
}


@pytest.mark.parametrize("case", ERROR_CASES)
def test_each_kind_of_error(case):
    found = assess(
        [truth(), truth(ONE)], [answers(), answers(*ERROR_CASES[case])], NAMES, [0.5] * 3
    )
    kinds = [KINDS[k] for k in found.kinds.kind]
    assert kinds[-1] == case
    missed = case in ("both", "background", "below")  # a wrong class or place says what is wrong
    errors = dict.fromkeys(ERRORS, 0) | {"missed": int(missed)}
    if case in ERRORS:
        errors[case] = 1
    assert found.metrics()["errors"] == errors
    about = -1 if case == "background" else 0
    assert found.kinds.about[-1] == about
    overlaps = {"right": 58 * 58 / 3600, "place": 1 / 3, "both": 1 / 3, "background": 0}
    overlaps |= {"duplicate": 59 * 59 / 3600}
    assert found.kinds.iou[-1] == pytest.approx(overlaps.get(case, 1))
    confusion = np.zeros((4, 4), int)
    cells = {"class": [(0, 1)], "duplicate": [(0, 0), (3, 0)], "right": [(0, 0)]}
    cells |= {"both": [(0, 3), (3, 1)], "below": [(0, 3)]}
    for cell in cells.get(case, [(0, 3), (3, 0)]):
        confusion[cell] += 1
    assert found.metrics()["confusion"] == confusion.tolist()


def test_sums_of_the_confusion_are_objects_and_accepted_answers(data):
    metrics = detection_metrics(*data, NAMES)
    confusion, rows = np.array(metrics["confusion"]), metrics["per_class"].values()
    assert confusion[:-1].sum(axis=1).tolist() == [own["count"] for own in rows]
    right = np.diag(confusion)[:-1]
    assert right / confusion[:, :-1].sum(axis=0) == pytest.approx(
        [own["precision"] for own in rows]
    )
    assert right / confusion[:-1].sum(axis=1) == pytest.approx([own["recall"] for own in rows])
    wrong = sum(metrics["errors"].values()) - metrics["errors"]["missed"]
    assert wrong == confusion[:, :-1].sum() - right.sum()


def test_the_interval_resamples_images(data):
    truths, found = data
    matches = match(truths, found, 3)
    random, statistic = np.random.default_rng(1), ap50_statistic(matches, 3)
    drawn = random.multinomial(len(truths), np.full(len(truths), 1 / len(truths)), 8)
    values = statistic(drawn.astype(np.float32))
    for counts, value in zip(drawn, values, strict=True):
        places = np.repeat(np.arange(len(truths)), counts)
        again = ap50([truths[i] for i in places], [found[i] for i in places], 3)
        assert value == pytest.approx(again, abs=1e-9)
    metrics = detection_metrics(truths, found, NAMES)
    low, high = metrics["ap50_interval95"]
    assert 0 <= low < metrics["ap50"] < high <= 1
    assert detection_metrics(truths, found, NAMES)["ap50_interval95"] == [low, high]
    assert f"(95% interval {low:.3f}-{high:.3f})" in detection_headline(metrics)
    assert detection_metrics(truths[:1], found[:1], NAMES)["ap50_interval95"] is None
    few = [truth(ONE), *[truth()] * 5], [answers(*ERROR_CASES["right"]), *[answers()] * 5]
    assert detection_metrics(*few, NAMES)["ap50_interval95"] == [1, 1]  # of those that have it


# The evaluator: metrics, rows, drawings


def label_of(true):
    boxes = zip(true.boxes, true.classes, true.aside, strict=True)
    made = [Box(NAMES[k], tuple(map(float, b)), "difficult" if a else "") for b, k, a in boxes]
    return Annotations(tuple(made), true.height, true.width)


def evaluated(truths, found, thresholds=None, batch=5):
    """Return an evaluator that has taken all in batches; a row of the output is a place."""

    def decode(row, height, width):
        assert (height, width) == (HEIGHT, WIDTH)
        return found[int(row[0])]

    evaluator = DetectedObjects(NAMES, decode, thresholds)
    for start in range(0, len(truths), batch):
        own = range(start, min(start + batch, len(truths)))
        labels = [label_of(truths[i]) for i in own]
        rows = np.array(own, np.float32)[:, None]
        evaluator.update([f"{i}.jpg" for i in own], labels, np.zeros(len(own)), rows)
    evaluator.original = lambda id_: np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    return evaluator


def test_the_evaluator_gives_the_metrics_of_all_batches(data):
    assert evaluated(*data).result() == detection_metrics(*data, NAMES)
    assert evaluated(*data, ()).result() == detection_metrics(*data, NAMES)
    thresholds = (0.3, 0.4, 0.5)
    assert evaluated(*data, thresholds).result() == detection_metrics(*data, NAMES, thresholds)


def test_what_is_measured_again_after_more_images_is_of_all_of_them(data):
    evaluator = evaluated(*data)
    before = evaluator.result()
    label = label_of(truth(ONE))
    evaluator.update(["more.jpg"], [label], np.zeros(1), np.zeros((1, 1)))
    assert evaluator.result()["examples"] == before["examples"] + 1


def test_boxes_that_hold_nothing_are_no_objects():
    boxes = (Box("bee", (5, 5, 5, 9)), Box("cat", (0, 0, 4, 4), "crowd"), Box("ant", (1, 1, 3, 4)))
    true = true_objects(Annotations(boxes, 10, 12), NAMES)
    assert true.classes.tolist() == [2, 0]
    assert (true.aside.tolist(), true.crowd.tolist()) == ([True, False], [True, False])
    assert (true.height, true.width, true.boxes[1].tolist()) == (10, 12, [1, 1, 3, 4])


def test_rows_hold_each_answer_and_each_missed_object(data):
    evaluator = evaluated(*data)
    head, *rows = evaluator.rows()
    rows = [dict(zip(head, row, strict=True)) for row in rows]
    metrics = evaluator.result()
    for kind in ERRORS:
        assert sum(row["kind"] == kind for row in rows) == metrics["errors"][kind], kind
    given = [row for row in rows if row["kind"] != "missed"]
    assert len(given) == sum(len(own.scores) for own in data[1])
    right = [row for row in rows if row["kind"] == "right"]
    assert len(right) == np.trace(np.array(metrics["confusion"]))
    for row in right:
        assert row["truth"] == row["prediction"]
        boxes = [[float(row[f"{p}{x}"]) for x in ("x1", "y1", "x2", "y2")] for p in ("truth_", "")]
        assert float(row["iou"]) == pytest.approx(slow_iou(*boxes), abs=0.01)
        assert row["score"]
    for row in rows:
        if row["kind"] == "missed":
            assert (row["prediction"], row["score"], row["x1"]) == ("", "", "")
            assert row["truth"] in NAMES
            assert float(row["truth_x2"]) > float(row["truth_x1"])
        if row["kind"] == "background":
            assert (row["truth"], row["truth_x1"]) == ("", "")


def test_names_that_a_spreadsheet_would_run_are_made_safe():
    evaluator = DetectedObjects(("=1+1",), lambda *_: answers((0, 0.5, 0, 0, 5, 5)))
    evaluator.update(["@a.jpg"], [Annotations((), 9, 9)], np.zeros(1), np.zeros((1, 1)))
    assert evaluator.rows()[1][:4] == ["'@a.jpg", "", "'=1+1", "background"]


def colours(path):
    with Image.open(path) as image:
        return {own for _, own in image.convert("RGB").getcolors(maxcolors=2**24)}


def test_drawings(data, tmp_path):
    evaluator = evaluated(*(part[:5] for part in data))
    assert evaluator.draw(tmp_path) == ""
    names = {"pr.png", "confusion.png", "errors.png", "worst.png"}
    assert {p.name for p in tmp_path.iterdir()} == names
    for name in names:
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 300
    assert {INK, TRUE_INK} <= colours(tmp_path / "worst.png")
    assert class_ink(0) in colours(tmp_path / "pr.png")


def test_nothing_worse_is_drawn_than_there_is(tmp_path):
    """Some is wrong, but no image can be read; then there is none."""
    for case in ("no answers", "no images"):
        evaluator = evaluated(*EMPTY[case])
        evaluator.original = lambda id_: None
        evaluator.draw(tmp_path)
        assert not (tmp_path / "worst.png").exists()
        assert (tmp_path / "pr.png").stat().st_size > 1000


def test_images_without_errors_are_not_among_the_worst():
    found = answers(*ERROR_CASES["right"]), answers(*ERROR_CASES["place"]), answers()
    evaluator = evaluated([truth(ONE), truth(ONE), truth()], found, (0.5, 0.5, 0.5))
    assert evaluator.error_counts().tolist() == [[0] * 6, [0, 1, 0, 0, 0, 0], [0] * 6]
    ((image, text),) = evaluator._worst()
    assert text == "1.jpg\n1 place"
    assert image.shape == (HEIGHT, WIDTH, 3)


def test_a_report_shows_tables_of_all(data):
    metrics = detection_metrics(*data, NAMES)
    figures = detection_figures(metrics)
    assert [f.name for f in figures] == ["AP50", "AP", "AP75", "objects", "test images"]
    assert figures[0].interval == tuple(metrics["ap50_interval95"])
    parts = detection_parts(metrics, NAMES)
    assert [p.title for p in parts][:3] == ["Classes", "Errors", "Confusion"]
    assert parts[2].rows[0] == ("ant", *metrics["confusion"][0])
    for part in parts:
        assert _part(part, None)["kind"] == "table"
        assert {len(row) for row in part.rows} == {len(part.columns)}
    many = [f"c{i}" for i in range(40)]
    truths = [t._replace(classes=t.classes * 13) for t in data[0]]
    found = [f._replace(classes=f.classes * 13) for f in data[1]]
    table = detection_parts(detection_metrics(truths, found, many), many)[2]
    assert table.columns == ("is", "predicted", "objects")
    counts = [row[2] for row in table.rows]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] > 0


# Boxes over images


@pytest.mark.parametrize("size", [(6, 8), (32, 32), (480, 640), (60, 1500)])
def test_boxes_are_drawn_on_images_of_any_size(size):
    height, width = size
    image = np.full((height, width, 3), 255, np.uint8)
    boxes = np.array([[1, 1, width - 2, height - 2]], np.float32)
    drawn = draw_boxes(image, boxes, np.array([1]), NAMES, np.array([0.5]))
    assert (drawn.shape, drawn.dtype) == (image.shape, np.uint8)
    assert tuple(drawn[height // 2, 1]) == class_ink(1)
    white = (drawn == 255).all(axis=2).mean()
    assert white > (0.2 if min(size) > 10 else 0), "the image is still to be seen"
    assert (draw_boxes(image, boxes[:0], np.zeros(0, int), NAMES) == image).all()


def test_each_class_has_a_colour_and_the_best_score_lies_on_top():
    assert len({class_ink(i) for i in range(60)}) == 60
    image = np.zeros((200, 200, 3), np.uint8)
    boxes = np.array([[20, 20, 120, 120]] * 2, np.float32)
    for scores in ([0.9, 0.2], [0.2, 0.9]):
        drawn = draw_boxes(image, boxes, np.array([0, 1]), NAMES, np.array(scores))
        assert tuple(drawn[80, 20]) == class_ink(int(np.argmax(scores)))
    drawn = draw_boxes(image, boxes, np.array([0, 1]), (), ink=TRUE_INK)
    assert tuple(drawn[80, 20]) == TRUE_INK


def test_labels_larger_than_their_boxes_are_left_out_of_crowded_images():
    image = np.zeros((300, 300, 3), np.uint8)
    grid = np.array([[x, y, x + 9, y + 9] for x in range(20, 260, 30) for y in range(20, 260, 30)])
    classes = np.zeros(len(grid), int)
    few, many = (draw_boxes(image, grid[:n], classes[:n], NAMES) for n in (2, len(grid)))
    outside = (slice(8, 19), slice(18, 60))  # above the first box
    assert few[outside].any()
    assert not many[outside].any()


# Files for other programs


def written(found, path, names=NAMES):
    coco = CocoResults(path, names)
    for i, own in enumerate(found):
        coco.add(f"a/{i}.jpg", own, HEIGHT, WIDTH)
    coco.write()
    return coco


def test_coco_results_are_read_by_pycocotools_and_measure_the_same(data, tmp_path, capsys):
    truths, found = data
    coco = written(found, tmp_path / "found.json")
    assert coco.images_path.name == "found-images.json"
    meaning = COCO(str(coco.images_path))
    results = meaning.loadRes(str(coco.path))
    assert [c["name"] for c in meaning.loadCats(meaning.getCatIds())] == list(NAMES)
    back = []
    for i in range(len(found)):
        image = meaning.loadImgs([i + 1])[0]
        assert (image["file_name"], image["height"]) == (f"a/{i}.jpg", HEIGHT)
        rows = results.loadAnns(results.getAnnIds(imgIds=[i + 1]))
        corners = [(r["bbox"][0] + r["bbox"][2], r["bbox"][1] + r["bbox"][3]) for r in rows]
        back.append(
            answers(*((r["category_id"] - 1, r["score"], *r["bbox"][:2], *c)
                      for r, c in zip(rows, corners, strict=True)))
        )  # fmt: skip
    capsys.readouterr()
    for own, other in zip(found, back, strict=True):
        assert other.boxes == pytest.approx(own.boxes, abs=0.002)
        assert other.classes.tolist() == own.classes.tolist()
    assert ap50(truths, back, 3) == pytest.approx(ap50(truths, found, 3), abs=1e-6)


def test_coco_results_of_nothing_are_an_empty_list(tmp_path):
    coco = written([answers()], tmp_path / "none.json", ("日本",))
    assert json.loads(coco.path.read_text()) == []
    meaning = json.loads(coco.images_path.read_text(encoding="utf-8"))
    assert len(meaning["images"]) == 1
    assert meaning["categories"] == [{"id": 1, "name": "日本"}]


def test_coco_results_that_cannot_be_written(tmp_path):
    for path in (tmp_path, tmp_path / "missing" / "found.json"):
        with pytest.raises(DataError, match="Allowed: a file in a folder that is there"):
            CocoResults(path, NAMES)
    (tmp_path / "mine-images.json").write_text("other things")
    with pytest.raises(
        DataError, match=r"mine-images\.json: is there already, and mine\.json is not"
    ):
        CocoResults(tmp_path / "mine.json", NAMES)
    for _ in range(2):  # what it wrote itself is written anew
        written([answers()], tmp_path / "again.json")
    coco = CocoResults(tmp_path / "found.json", NAMES)
    (tmp_path / "found.json").mkdir()
    with pytest.raises(DataError, match=r"found\.json: cannot be written"):
        coco.write()


def test_yolo_text_holds_fractions_of_the_image(tmp_path):
    yolo = YoloText(tmp_path / "new", NAMES)
    rows = (2, 0.25, 32, 24, 96, 72), (0, 0.75, -10, 0, 160, 240)
    path = yolo.add("somewhere/dog.jpg", answers(*rows), HEIGHT, WIDTH)
    assert path == tmp_path / "new" / "dog.txt"
    lines = path.read_text().splitlines()
    assert lines == [
        "0 0.250000 0.500000 0.500000 1.000000 0.750000",  # cut to the image
        "2 0.200000 0.200000 0.200000 0.200000 0.250000",
    ]
    assert (tmp_path / "new" / "classes.txt").read_text().splitlines() == list(NAMES)


def test_yolo_text_overwrites_nothing(tmp_path):
    yolo = YoloText(tmp_path / "new", NAMES)
    names = ["a/dog.jpg", "b/Dog.png", "classes.jpg", "none.jpg"]
    paths = [yolo.add(name, answers(), 9, 9).name for name in names]
    assert paths == ["dog.txt", "Dog-2.txt", "classes-2.txt", "none.txt"]
    assert (tmp_path / "new" / "none.txt").read_text() == ""
    with pytest.raises(DataError, match="is not empty"):
        YoloText(tmp_path / "new", NAMES)
