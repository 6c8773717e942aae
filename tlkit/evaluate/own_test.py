"""A run's own test part: listed again, and held against what it was."""

from __future__ import annotations

from tlkit.data.example import Example
from tlkit.data.feed.dataset import open_spec
from tlkit.data.membership import Known, Members, changes, members, recognise
from tlkit.errors import DataError
from tlkit.progress import Progress
from tlkit.runfolder.folder import RunFolder
from tlkit.spec.run import ARRAYS, RunSpec


def own_test(folder: RunFolder, spec: RunSpec, kept: Members | None) -> list[Example]:
    """List the images of a run's own test part.

    Args:
        kept: the content of `data.json`; None for a run of an earlier version.

    Raises:
        DataError: it has none, was trained on arrays, or some are gone.
    """
    if ARRAYS in (spec.data, spec.test):
        raise DataError(f"run {folder.path}: was trained on arrays; say what to evaluate on")
    wanted = set(
        folder.read_json("scan.json")["splits"]["test"]
        if kept is None
        else [id_ for id_, *_ in kept["test"]]
    )
    if not wanted:
        raise DataError(f"run {folder.path}: has no test part; say what to evaluate on")
    known = {"val": 0.0} if spec.val == ARRAYS else {}
    parts = open_spec(spec.model_copy(update=known), {}).parts
    found = [e for e in parts.get("test", parts["train"]) if e.id in wanted]
    if len(found) != len(wanted):
        raise DataError(
            f"run {folder.path}: {len(wanted) - len(found)} of its {len(wanted)} test images "
            f"are no longer in {spec.data}"
        )
    return found


def check_test(
    folder: RunFolder, kept: Members, examples: list[Example], digests: dict[str, str]
) -> None:
    """Check that the test part has the content and the labels that it had.

    Raises:
        DataError: it has not; the message names what has changed.
    """
    now = members({"test": examples}, digests)
    wrong = changes({"test": sorted(kept["test"])}, {"test": sorted(now["test"])})
    if wrong:
        raise DataError(
            f"run {folder.path}: its test part is no longer what it was: {'; '.join(wrong)}. "
            f"Put it back, or say what to evaluate on: tlkit evaluate {folder.path} DATA"
        )


def recognised_by(
    folder: RunFolder,
    kept: Members | None,
    progress: Progress,
    own: bool,
    examples: list[Example],
    usable: list[Example],
    digests: dict[str, str],
) -> Known:
    """Return which images a run knows; of its `own` test part none, which is checked.

    Args:
        kept: as for `own_test`.
    """
    if kept is None:
        if not own:
            progress.say(
                "note", "what the run has seen is unknown: an earlier version kept no hashes"
            )
    elif own:
        check_test(folder, kept, examples, digests)
    else:
        return recognise(usable, digests, kept, progress)
    return {}
