"""The model card of an export: README.md, and the script that answers without tlkit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tlkit.backbones.sides import sides
from tlkit.errors import printable
from tlkit.export import standalone
from tlkit.export.about import BESIDE, RESIZED, About
from tlkit.export.formats import lookup
from tlkit.export.parity import Parity

CARD, SCRIPT = "README.md", "predict.py"

PACKAGES = {
    "onnxruntime": "onnxruntime",
    "ai_edge_litert": "ai-edge-litert",
    "openvino": "openvino",
    "": "tensorflow",
}
"""What is installed for a runtime's module."""

SHOWN = 100
"""Labels that the card lists."""


def write_card(about: About, parity: Parity, metrics: dict[str, Any] | None, folder: Path) -> None:
    """Write README.md, with the front matter of the Hugging Face Hub, and `predict.py`.

    Args:
        metrics: content of the run's metrics.json; None: the run is not finished.
    """
    script = Path(standalone.__file__).read_text(encoding="utf-8")
    (folder / SCRIPT).write_text(script, encoding="utf-8")
    front = yaml.safe_dump(_front_matter(about, metrics), allow_unicode=True, sort_keys=False)
    text = f"---\n{front}---\n\n{_body(about, parity, metrics, folder)}"
    (folder / CARD).write_text(text, encoding="utf-8")


def _front_matter(about: About, metrics: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the Hub reads (its documentation, "Model Cards", "Model card metadata")."""
    tags = ["tlkit", "keras-applications", about.backbone.lower(), about.kind]
    front: dict[str, Any] = {"tags": [*tags, about.task.name]}
    if about.task.hub:
        front["pipeline_tag"] = about.task.hub
    test = (metrics or {}).get("test") or {}
    found = {name: test[name] for name in ("accuracy", "macro_f1") if name in test}
    if about.task.hub and found:
        front["model-index"] = [
            {
                "name": about.backbone,
                "results": [
                    {
                        "task": {"type": about.task.hub},
                        "dataset": {"name": "own test part", "type": "image"},
                        "metrics": [
                            {"type": {"macro_f1": "f1"}.get(name, name), "value": round(value, 4)}
                            for name, value in found.items()
                        ],
                    }
                ],
            }
        ]
    return front


def _body(about: About, parity: Parity, metrics: dict[str, Any] | None, folder: Path) -> str:
    kind, task = lookup(about.kind), about.task
    package = PACKAGES[kind.runtime]
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
    names = [f"`{printable(name).replace('`', '')}`" for name in task.outputs[:SHOWN]]
    more = f" and {len(task.outputs) - SHOWN:,} more" if len(task.outputs) > SHOWN else ""
    rendering, (height, width) = about.rendering, sides(about.size)
    behind = {"drop": "is dropped"}.get(rendering.alpha, f"is shown on {rendering.alpha}")
    lines = [
        f"# {about.backbone}, {task.name}",
        "",
        f"Fine-tuned with tlkit from `keras.applications`. {_measured(about, metrics)}",
        "",
        f"**Answers** with {len(task.outputs)} {task.called}: {', '.join(names)}{more}."
        + _calibrated(task.to_json().get("temperature", 1)),
        "",
        "## Use",
        "",
        "```",
        f"pip install numpy pillow {package}",
        f"python {SCRIPT} photo.jpg",
        "```",
        "",
        f"With tlkit: `tlkit predict THIS_FOLDER photo.jpg`. Format: {about.kind}, {kind.about}; "
        f"{size:.1f} MB.",
        "",
        "## Input",
        "",
        f"`image`: RGB, 0 to 255, {height} x {width} pixels, (batch, height, width, 3); "
        "scaling is inside. An image is turned upright by its EXIF orientation and "
        f"{RESIZED[rendering.fit]}; transparency {behind}; of 16-bit samples the low "
        f"{rendering.bits or 16} bits count. `{SCRIPT}` does all of it, `{BESIDE}` describes it."
        + (" The answer is the mean over an image and its mirror image." * (about.views == 2)),
        "",
        "## Checked",
        "",
        f"On {parity.images} images, from the file's bytes through this format's runtime, against "
        f"Keras: largest difference {parity.largest_difference:.1g}, agreement "
        f"{parity.agreement:.3f}.",
        "",
    ]
    return "\n".join(lines)


def _calibrated(temperature: float) -> str:
    if temperature == 1:
        return ""
    return (
        f" The probabilities are calibrated: their logits are divided by {temperature:.3g} "
        "(Guo et al. 2017), inside."
    )


def _measured(about: About, metrics: dict[str, Any] | None) -> str:
    if metrics is None:
        return "The run is not finished: this is its best model so far by validation."
    counts = metrics["examples"]
    parts = f"Trained on {counts['train']:,} images, validated on {counts['val']:,}"
    if not metrics["test"]:
        return f"{parts}; there was no test part."
    return f"{parts}. On the test part, by Keras: {about.task.headline(metrics['test'])}."
