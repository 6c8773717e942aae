"""Answer images with the network in this folder: by numpy, Pillow and its runtime, Python 3.10.

python predict.py photo.jpg other.png        a JSON line for each image
"""

import json
import os
import sys

import numpy as np
from PIL import Image, ImageOps

BARS = (124, 117, 104)
"""RGB around a letterboxed image."""

HERE = os.path.dirname(os.path.abspath(__file__))


def pixels(path, alpha="white", bits=16):
    """Return an image as uint8 (height, width, 3), RGB, turned upright.

    Transparency is shown on white or black, or dropped; of 16-bit samples the low `bits` count.
    """
    image = Image.open(path)
    deep = image.mode.startswith(("I", "F"))
    if bits != 16 and image.format == "PNG" and not deep and _bit_depth(path) == 16:
        raise ValueError("Pillow reads 16-bit colour by its upper byte; this network uses others")
    image = ImageOps.exif_transpose(image)
    if deep:
        grey = np.minimum(np.asarray(image).astype(np.int64), 2**bits - 1) >> (bits - 8)
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if clear and alpha != "drop":
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, alpha)
        image = Image.alpha_composite(ground, image)
    return np.asarray(image.convert("RGB"))


def _bit_depth(path):
    with open(path, "rb") as file:
        return file.read(25)[24]  # PNG specification, 11.2.1: IHDR


def sides(size):
    """Return height and width of what the network sees; one number is the side of a square."""
    return tuple(size) if isinstance(size, list) else (size, size)


def place(height, width, size, fit):
    """Return where an image lies in what the network sees: top, left, height and width."""
    rows, columns = sides(size)
    if fit == "stretch":
        return 0, 0, rows, columns
    own_rows = min(rows, max(1, (2 * columns * height + width) // (2 * width)))
    own_columns = min(columns, max(1, (2 * rows * width + height) // (2 * height)))
    return (rows - own_rows) // 2, (columns - own_columns) // 2, own_rows, own_columns


def resized(image, size, fit="stretch"):
    """Return float32 (height, width, 3), 0-255: bilinear, antialiased, not rounded, on bars."""
    top, left, rows, columns = place(*image.shape[:2], size, fit)
    channels = [Image.fromarray(image[..., i].astype(np.float32)) for i in range(3)]
    small = [np.asarray(c.resize((columns, rows), Image.BILINEAR)) for c in channels]
    whole = np.full((*sides(size), 3), BARS, np.float32)
    whole[top : top + rows, left : left + columns] = np.stack(small, axis=-1)
    return whole


def load(about, folder=HERE):
    """Return a function of float32 (1, height, width, 3) to the answers by name."""
    kind = about["format"]
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(
            os.path.join(folder, "model.onnx"), providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        return lambda image: dict(zip(names, session.run(None, {"image": image}), strict=True))
    if kind == "openvino":
        import openvino

        full = {"INFERENCE_PRECISION_HINT": "f32"}
        file = os.path.join(folder, "model.xml")
        compiled = openvino.Core().compile_model(file, "CPU", full)
        return lambda image: {
            output.get_any_name(): np.array(value)
            for output, value in compiled({"image": image}).items()
        }
    if kind.startswith("litert"):
        return _litert(os.path.join(folder, "model.tflite"))
    import tensorflow

    loaded = tensorflow.saved_model.load(folder)
    signature = loaded.signatures["serve_resized"]
    signature.loaded = loaded  # which holds its weights
    return lambda image: {
        name: value.numpy()
        for name, value in signature(images=tensorflow.constant(image)).items()
        if name not in ("label", "score")
    }


def _litert(file):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=file).get_signature_runner("serving_default")
    given, outputs = runner.get_input_details()["image"], runner.get_output_details()

    def answer(image):
        scale, zero = given["quantization"]
        if scale:  # real number = scale * (stored - zero)
            image = np.clip(np.round(image / scale) + zero, 0, 255)
        answers = runner(image=image.astype(given["dtype"]))
        return {
            name: _real(value, *outputs[name]["quantization"]) for name, value in answers.items()
        }

    return answer


def _real(value, scale, zero):
    return (value.astype(np.float32) - zero) * np.float32(scale) if scale else value


def named(answer, about, height, width):
    """Return the answer of one image in words: labels with probabilities, or numbers by name.

    Boxes are in pixels of the image, which has this height and width; maps are of the part that
    shows it.
    """
    labels, size = about["labels"], about["input"]["size"]
    fit = about["preprocessing"].get("fit", "stretch")
    top, left, rows, columns = place(height, width, size, fit)
    main = answer.pop(about["answers"])[0]
    if "box" in answer:
        shares = (answer["box"] - [left, top] * 2) / ([columns, rows] * 2)
        answer["box"] = np.clip(shares, 0, 1) * ([width, height] * 2)
    if main.ndim == 3:
        main = main[top : top + rows, left : left + columns]
        chosen = np.bincount(main.argmax(axis=-1).ravel(), minlength=len(labels))
        answer["areas"] = chosen[None] / chosen.sum()
    if main.shape != (len(labels),):
        return {about["answers"]: main.tolist(), **{k: v[0].tolist() for k, v in answer.items()}}
    row = {about["answers"]: dict(zip(labels, map(float, main), strict=True))}
    if about["answers"] == "probabilities":
        row = {"label": labels[int(main.argmax())], "score": float(main.max()), **row}
    if "given" in answer:
        given = zip(labels, answer["given"][0], strict=True)
        row["labels"] = [name for name, yes in given if yes]
    return row


def main(paths):
    """Print a JSON line for each image."""
    with open(os.path.join(HERE, "export.json"), encoding="utf-8") as file:
        about = json.load(file)
    drawn, size = about["preprocessing"], about["input"]["size"]
    run, failed = load(about), 0
    for path in paths:
        try:
            image = pixels(path, drawn["alpha"], drawn["bits"])
            given = resized(image, size, drawn.get("fit", "stretch"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            print(json.dumps({"path": path, "error": str(error)}))
            failed += 1
            continue
        row = named(run(given[None]), about, *image.shape[:2])
        print(json.dumps({"path": path, **row, "error": None}, ensure_ascii=False))
    return 2 if failed == len(paths) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) if sys.argv[1:] else __doc__)
