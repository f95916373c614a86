"""Trains a small classifier of handwritten digits (scikit-learn's own 1,797 images of 8 by 8), and writes requests.

    python digits.py --model digits.joblib
    python digits.py --requests requests.jsonl --labelled labelled.jsonl --shape v2

Every server's example but MiniLM's serves it. A request holds one of the 500 images that were not learned from; a
labelled line has the request and the digit that is right: what a quality guard compares answers with.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sklearn.datasets import load_digits

HELD_BACK = 500


def images() -> tuple[Any, Any, Any, Any]:
    """Learned from and held back: pixels from 0 to 1, and digits."""
    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels / 16.0).astype("float32")
    return pixels[:-HELD_BACK], labels[:-HELD_BACK], pixels[-HELD_BACK:], labels[-HELD_BACK:]


def request(shape: str, pixels: Any) -> Any:
    """One image as the server wants it."""
    values = [round(float(one), 4) for one in pixels]
    if shape == "v2":
        return {"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": values}]}
    return {"instances": [values]} if shape == "v1" else {"pixels": values}


def write_model(path: Path) -> None:
    import joblib
    from sklearn.neural_network import MLPClassifier

    pixels, labels, test, truth = images()
    # Larger than digits need, so that the server has something to do for each.
    model = MLPClassifier((1500, 1500), max_iter=15, random_state=0).fit(pixels, labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, path)
    print(f"{path}: right for {model.score(test, truth):.1%} of {HELD_BACK} images")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--requests", type=Path)
    parser.add_argument("--labelled", type=Path)
    parser.add_argument("--shape", choices=("v2", "v1", "plain"), default="plain")
    options = parser.parse_args()
    if options.model is not None:
        write_model(options.model)
    _, _, test, truth = images()
    asked = [request(options.shape, one) for one in test]
    if options.requests is not None:
        options.requests.write_text("".join(json.dumps(one) + "\n" for one in asked), encoding="utf-8")
    if options.labelled is not None:
        pairs = zip(asked[:200], truth, strict=False)
        lines = [json.dumps({"request": one, "label": int(label)}) for one, label in pairs]
        options.labelled.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
