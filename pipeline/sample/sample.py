"""Write the synthetic fundus set: an offline stand-in for a hospital's folder of labelled photographs."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.sample.fundus import Side, draw_eye

# Gaps between the classes: a ratio on a boundary would be a coin toss for the label, as it is for graders.
RATIOS = {"glaucoma": (0.73, 0.90), "normal": (0.20, 0.47), "suspect": (0.52, 0.68)}
SIDES: tuple[Side, Side] = ("OD", "OS")
# Sides of one patient differ by at most this much.
MAX_ASYMMETRY = 0.06
README = """Synthetic fundus photographs, seed {seed}. NOT FOR MEDICAL USE.

No photograph here shows a real eye. Each was drawn by `python -m pipeline sample glaucoma --seed {seed}`.

Layout: train/<class>/ and test/<class>/, files P<patient>_<OD|OS>: OD is the right eye, OS the left.
Both eyes of a patient have one class and lie in one split.

The class follows from the vertical cup-to-disc ratio alone:
{rules}
Everything else (light, colour, size, place and tilt of the disc, paleness of the cup, vessels, blur, noise, picture
size, file format, compression) is drawn independently of the class.
"""


class SampleError(PipelineError):
    """The sample set cannot be written."""


@dataclass(frozen=True)
class EyePlan:
    """One picture of the set: whose, which class and split, its cup-to-disc ratio, and how it is stored.

    `quality` is the JPEG quality, 1 to 95; a PNG has None.
    """

    patient: int
    side: Side
    label: str
    split: str
    ratio: float
    quality: int | None

    @property
    def path(self) -> Path:
        """Return the file's path inside the set."""
        suffix = "png" if self.quality is None else "jpg"
        return Path(self.split, self.label, f"P{self.patient:04d}_{self.side}.{suffix}")


def write_glaucoma_set(
    out: Path, *, seed: int, train_patients_per_class: int = 80, test_patients_per_class: int = 20
) -> list[EyePlan]:
    """Draw the set and write it to `out`, all or nothing.

    The same arguments give byte-identical files with the same versions of NumPy, SciPy and Pillow.

    Args:
        out: folder to create; it may exist if it is empty.
        seed: ≥ 0; different seeds give different eyes.
        train_patients_per_class: patients, each with two pictures.
        test_patients_per_class: patients, each with two pictures, none of them in train.

    Returns:
        The pictures written, in order of patient.

    Raises:
        SampleError: if `out` is a file or has files in it, or an argument is out of range.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SampleError(f"{out} exists and is not an empty folder: name a new folder, or empty that one first")
    plans = plan_glaucoma_set(
        seed=seed, train_patients_per_class=train_patients_per_class, test_patients_per_class=test_patients_per_class
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for plan in plans:
            _write_eye(staging / plan.path, plan, seed)
        rules = "".join(f"  {label:<9} {low:.2f} to {high:.2f}\n" for label, (low, high) in RATIOS.items())
        (staging / "README.txt").write_text(README.format(seed=seed, rules=rules), encoding="utf-8")
        staging.chmod(0o755)
        staging.rename(out)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return plans


def plan_glaucoma_set(
    *, seed: int, train_patients_per_class: int = 80, test_patients_per_class: int = 20
) -> list[EyePlan]:
    """Return the set's images and labels, without drawing them; arguments as for `write_glaucoma_set`."""
    if seed < 0 or train_patients_per_class < 1 or test_patients_per_class < 1:
        raise SampleError(
            f"seed must be ≥ 0 and patients per class ≥ 1, got seed {seed}, "
            f"train {train_patients_per_class}, test {test_patients_per_class}"
        )
    counts = {"train": train_patients_per_class, "test": test_patients_per_class}
    roles = [(split, label) for split, count in counts.items() for label in RATIOS for _ in range(count)]
    rng = np.random.default_rng([seed])
    # Numbers are dealt out at random: else a patient's number would tell the class.
    dealt = [roles[place] for place in rng.permutation(len(roles))]
    plans = []
    for patient, (split, label) in enumerate(dealt, start=1):
        plans += _plan_patient(rng, patient, split, label)
    return plans


def _plan_patient(rng: np.random.Generator, patient: int, split: str, label: str) -> list[EyePlan]:
    low, high = RATIOS[label]
    shared = rng.uniform(low, high)
    plans = []
    for side in SIDES:
        ratio = float(np.clip(shared + rng.uniform(-0.5, 0.5) * MAX_ASYMMETRY, low, high))
        is_png, quality = rng.random() < 0.3, int(rng.integers(78, 96))
        plans.append(EyePlan(patient, side, label, split, ratio, None if is_png else quality))
    return plans


def _write_eye(path: Path, plan: EyePlan, seed: int) -> None:
    picture = Image.fromarray(draw_eye(seed=seed, patient=plan.patient, side=plan.side, ratio=plan.ratio))
    path.parent.mkdir(parents=True, exist_ok=True)
    if plan.quality is None:
        picture.save(path, compress_level=1)
    else:
        picture.save(path, quality=plan.quality)
