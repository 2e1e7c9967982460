"""Draw one synthetic, disc-centred fundus photograph.

Lengths are in disc radii (half the disc's vertical diameter), x grows towards the temple, y downwards; a left eye is
the same scene with x mirrored. Colours are RGB, float32, and stay linear until the camera's response is applied.

No random number depends on the cup-to-disc ratio. So two calls that differ only in `ratio` give the same photograph
with another cup, and nothing but the cup can tell the classes apart.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image
from scipy import ndimage

from pipeline.sample.vessels import bend_at_cup, grow_vessels, paint_vessels

Side = Literal["OD", "OS"]

SIZES = ((256, 256), (288, 288), (320, 320), (384, 384), (320, 288), (288, 256), (384, 320))
MIN_RATIO, MAX_RATIO = 0.05, 0.95
# Share of the light that a layer of vessels takes away; the reflex gives some back.
ABSORBED = {
    "vein": np.array([0.42, 0.70, 0.62], np.float32),
    "artery": np.array([0.20, 0.52, 0.50], np.float32),
    "reflex": np.array([-0.10, -0.10, -0.10], np.float32),
}
# How much a change of tone shows in red, green and blue: the retina is nearly saturated in red.
CONTRAST = np.array([0.55, 1.0, 1.05], np.float32)


@dataclass(frozen=True)
class Patient:
    """Traits that both eyes of a patient share: pigment, and the camera of that day."""

    retina: np.ndarray
    melanin: float
    gain: float
    balance: np.ndarray


@dataclass(frozen=True)
class Disc:
    """The optic disc and its cup, apart from the ratio.

    `centre` is in fractions of the picture (x, y), `radius` in fractions of its width; `aspect` = width / height.
    """

    centre: tuple[float, float]
    radius: float
    aspect: float
    tilt: float
    lobes: np.ndarray
    edge: float
    cup_edge: float
    cup_aspect: float
    cup_shift: np.ndarray
    rim: np.ndarray
    pallor: np.ndarray


def draw_eye(*, seed: int, patient: int, side: Side, ratio: float) -> np.ndarray:
    """Draw the eye of one patient with a chosen vertical cup-to-disc ratio.

    Args:
        seed: seed of the set, ≥ 0.
        patient: number of the patient, ≥ 1.
        side: OD (right) or OS (left; mirrored).
        ratio: vertical cup diameter / vertical disc diameter, in [0.05, 0.95]. It changes nothing but the disc.

    Returns:
        uint8, shape (height, width, 3), RGB, one of `SIZES`.

    Raises:
        ValueError: if an argument is outside its range.
    """
    if not MIN_RATIO <= ratio <= MAX_RATIO:
        raise ValueError(f"ratio must be in [{MIN_RATIO}, {MAX_RATIO}], got {ratio}")
    if patient < 1 or side not in ("OD", "OS"):
        raise ValueError(f"expected patient ≥ 1 and side OD or OS, got {patient} and {side!r}")
    shared = _draw_patient(np.random.default_rng([seed, patient, 1]))
    # Never end a seed with 0: SeedSequence pads with zeros, so [1, 2] and [1, 2, 0] are the same stream.
    rng = np.random.default_rng([seed, patient, 2 if side == "OD" else 3])
    width, height = SIZES[rng.integers(len(SIZES))]
    disc = _draw_disc(rng)
    x, y = _scene_grid(width, height, disc, mirrored=side == "OS")
    # Nothing in the retina's ground or in the flash is finer than two pixels: both are drawn at half size.
    coarse_x, coarse_y = x[::2, ::2], y[::2, ::2]
    scene = _enlarge(_paint_retina(rng, shared, coarse_x, coarse_y), x.shape)
    scene *= 1.0 + (0.035 * smooth_noise(rng, x.shape, 110))[..., None] * CONTRAST
    scene = _paint_disc(rng, scene, disc, x, y, ratio)
    scene = _paint_all_vessels(rng, scene, disc, mirrored=side == "OS", ratio=ratio)
    return _photograph(rng, scene * _enlarge(_illumination(rng, coarse_x, coarse_y), x.shape), shared)


def _draw_patient(rng: np.random.Generator) -> Patient:
    red = rng.uniform(0.56, 0.78)
    green = red * rng.uniform(0.29, 0.54)
    return Patient(
        retina=np.array([red, green, green * rng.uniform(0.24, 0.58)], np.float32),
        melanin=rng.uniform(0.0, 1.0),
        gain=rng.uniform(0.80, 1.22),
        balance=rng.normal(1.0, [0.03, 0.04, 0.06]).astype(np.float32),
    )


def _draw_disc(rng: np.random.Generator) -> Disc:
    red, green, blue = rng.uniform(0.82, 0.94), rng.uniform(0.54, 0.64), rng.uniform(0.46, 0.58)
    rim = red * np.array([1.0, green, green * blue], np.float32)
    pallor = rim * np.array([rng.uniform(1.08, 1.16), rng.uniform(1.40, 1.58), rng.uniform(1.6, 2.3)], np.float32)
    return Disc(
        centre=(0.5 + rng.uniform(-0.06, 0.06), 0.5 + rng.uniform(-0.05, 0.05)),
        radius=rng.uniform(0.155, 0.205),
        aspect=rng.uniform(0.84, 0.98),
        tilt=rng.normal(0.0, 0.12),
        lobes=rng.normal(0.0, 0.012, (3, 2)).astype(np.float32),
        edge=rng.uniform(0.05, 0.11),
        cup_edge=rng.uniform(0.05, 0.10),
        cup_aspect=rng.uniform(0.92, 1.04),
        cup_shift=rng.uniform([0.0, -0.3], [0.7, 0.3]),
        rim=rim,
        pallor=pallor,
    )


def _scene_grid(width: int, height: int, disc: Disc, *, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of every pixel, float32, shape (height, width), in disc radii from the disc's centre."""
    scale = disc.radius * width
    x = (np.arange(width, dtype=np.float32) + 0.5 - disc.centre[0] * width) / scale
    y = (np.arange(height, dtype=np.float32) + 0.5 - disc.centre[1] * height) / scale
    grid_x, grid_y = np.meshgrid(-x if mirrored else x, y)
    return grid_x, grid_y


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> np.ndarray:
    """Return smooth noise of about unit variance, float32, with `cells` bumps across the picture."""
    coarse = rng.standard_normal((cells + 1, cells + 1)).astype(np.float32)
    picture = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(picture) * 1.35


def _enlarge(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a float32 picture, (height, width, channels), resized to `shape` (height, width)."""
    planes = [Image.fromarray(plane) for plane in np.ascontiguousarray(picture.transpose(2, 0, 1))]
    return np.dstack([np.asarray(plane.resize(shape[::-1], Image.Resampling.BILINEAR)) for plane in planes])


def _paint_retina(rng: np.random.Generator, patient: Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Paint the retina around the disc: pigment, choroid, nerve fibres, fovea; float32, (height, width, 3)."""
    shape = x.shape
    mottle = 0.6 * smooth_noise(rng, shape, 6) + 0.35 * smooth_noise(rng, shape, 17)
    grain = smooth_noise(rng, shape, 48)
    # Valleys of smooth noise wind like the choroid's vessels and show where the pigment above them is thin.
    weave = smooth_noise(rng, shape, 7) + 0.8 * smooth_noise(rng, shape, 13) + 0.5 * smooth_noise(rng, shape, 24)
    choroid = np.exp(-np.abs(weave) * 2.0) - 0.45
    choroid_strength = rng.beta(1.2, 2.0) * 0.22
    distance = np.hypot(x, y)
    away = _step(distance, 1.7, 0.5)
    fibres = _nerve_fibres(rng, x, y, distance) * rng.uniform(0.2, 1.0)
    fovea = np.exp(-((x - rng.uniform(4.4, 5.2)) ** 2 + (y - rng.uniform(0.1, 0.8)) ** 2) / rng.uniform(1.0, 2.2))
    tone = 0.07 * mottle + 0.035 * grain + choroid_strength * choroid * away
    field = 1.0 + tone[..., None] * CONTRAST + fibres[..., None] * np.array([0.05, 0.14, 0.16], np.float32)
    field *= 1.0 - fovea[..., None] * rng.uniform(0.1, 0.32) * CONTRAST
    pigment = 1.0 - 0.22 * patient.melanin * np.array([0.6, 1.0, 0.9], np.float32)
    hue_drift = smooth_noise(rng, shape, 2)[..., None] * np.array([0.02, -0.03, -0.05], np.float32)
    return (patient.retina * pigment * (field + hue_drift)).astype(np.float32)


def _nerve_fibres(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return the pale radial sheen above and below the disc, float32, about [0, 1]."""
    angle = np.arctan2(y, x)
    streaks = _angular_noise(rng, angle)
    fade = np.exp(-((distance - 1.0).clip(0) / 1.3))
    return np.abs(np.sin(angle)) * fade * (0.75 + 0.35 * streaks)


def _angular_noise(rng: np.random.Generator, angle: np.ndarray) -> np.ndarray:
    """Return streaks that run radially, float32, about unit variance."""
    ring = ndimage.gaussian_filter1d(rng.standard_normal(256).astype(np.float32), 1.0, mode="wrap") * 1.8
    return ring[((angle + np.pi) * (255 / (2 * np.pi))).astype(np.int16)]


def _step(value: np.ndarray, threshold: float, softness: float) -> np.ndarray:
    """Return a soft step, 0 below `threshold` and 1 above, float32."""
    t = ((value - threshold) / (2 * softness) + 0.5).clip(0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def _paint_disc(
    rng: np.random.Generator, scene: np.ndarray, disc: Disc, x: np.ndarray, y: np.ndarray, ratio: float
) -> np.ndarray:
    """Blend the disc's surround, its rim and its cup into the scene."""
    rows = np.flatnonzero(np.abs(y[:, 0]) < 1.9)
    columns = np.flatnonzero(np.abs(x[0]) < 1.9)
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    x, y = x[window], y[window]
    cosine, sine = float(np.cos(disc.tilt)), float(np.sin(disc.tilt))
    u = (x * cosine + y * sine) / disc.aspect
    v = y * cosine - x * sine
    angle = np.arctan2(v, u)
    wave = sum(a * np.cos(k * angle) + b * np.sin(k * angle) for k, (a, b) in enumerate(disc.lobes, start=2))
    radius = np.hypot(u, v) / (1.0 + wave)
    ground = _paint_surround(rng, scene[window], radius, angle)
    streaks = _angular_noise(rng, angle)
    texture = 0.04 * smooth_noise(rng, x.shape, 10) + 0.03 * smooth_noise(rng, x.shape, 28) + 0.015 * streaks
    shade = texture + 0.06 * np.cos(angle) * radius.clip(0, 1) + 0.05 * np.abs(np.sin(angle))
    surface = disc.rim * (1.0 + shade[..., None] * CONTRAST)
    # The outermost rim thins out, so that the retina's own colour shines through.
    surface += (0.3 * _step(radius, 0.95, 0.2))[..., None] * (ground - surface)
    inside, depth = _cup(rng, disc, u, v, wave, ratio)
    surface += inside[..., None] * (disc.pallor * (1.0 + (depth + 0.6 * texture)[..., None]) - surface)
    cover = 1.0 - _step(radius, 1.0, disc.edge)
    scene[window] = ground + cover[..., None] * (surface - ground)
    return scene


def _cup(
    rng: np.random.Generator, disc: Disc, u: np.ndarray, v: np.ndarray, wave: np.ndarray, ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cup's soft mask, (height, width), and the change of tone inside it, both float32, (height, width)."""
    free = 1.0 - ratio
    shift_u, shift_v = (float(shift) * free for shift in disc.cup_shift)
    radius = np.hypot((u - shift_u * 0.35) / disc.cup_aspect, v - shift_v * 0.15) / (1.0 + 0.6 * wave)
    pores = np.maximum(smooth_noise(rng, u.shape, 36) - 0.5, 0) * rng.uniform(0.0, 0.10)
    depth = 0.06 * _step(ratio - radius, 0.12, 0.12) + 0.05 * u - pores
    return 1.0 - _step(radius, ratio, disc.cup_edge), depth


def _paint_surround(rng: np.random.Generator, scene: np.ndarray, radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Paint the glow around the disc, its scleral ring and, in some eyes, a pale temporal crescent of atrophy."""
    outside = (radius - 1.0).clip(0)
    ring = np.exp(-(((radius - 1.05) / 0.06) ** 2)) * rng.uniform(-0.12, 0.12)
    ring += np.exp(-outside * 5) * rng.uniform(0, 0.14)
    reach = 1.0 + rng.uniform(0.1, 0.35) * np.exp(-((angle - rng.normal(0.0, 0.4)) ** 2) / 0.9)
    amount = rng.uniform(0.05, 0.14) if rng.random() < 0.35 else 0.0
    crescent = amount * (1.0 - _step(radius - reach, 0.0, 0.12)) * _step(reach, 1.08, 0.06)
    return scene * (1.0 + ring[..., None] * CONTRAST) + crescent[..., None] * np.array([1.0, 0.9, 0.5], np.float32)


def _paint_all_vessels(
    rng: np.random.Generator, scene: np.ndarray, disc: Disc, *, mirrored: bool, ratio: float
) -> np.ndarray:
    """Multiply the scene by the light that vessels let through; the ratio moves them inside the disc only."""
    vessels = [bend_at_cup(vessel, ratio) for vessel in grow_vessels(rng)]
    layers = paint_vessels(vessels, scene.shape[1::-1], disc.centre, disc.radius, mirrored=mirrored)
    depth = rng.uniform(0.75, 1.0)
    for layer, opacity in layers.items():
        scene *= 1.0 - (depth * opacity)[..., None] * ABSORBED[layer]
    return scene


def _illumination(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the uneven light of the flash with vignetting, float32, shape (height, width, 1)."""
    x, y = (axis / float(np.abs(x).max()) for axis in (x, y))
    offset = [float(part) for part in rng.normal(0.0, 0.25, 2)]
    vignette = 1.0 - rng.uniform(0.08, 0.42) * ((x - offset[0]) ** 2 + (y - offset[1]) ** 2) / 1.6
    slope = [float(part) for part in rng.normal(0.0, 0.09, 2)]
    light = vignette * (1.0 + slope[0] * x + slope[1] * y) + 0.035 * smooth_noise(rng, x.shape, 3)
    return np.maximum(light, 0.05)[..., None].astype(np.float32)


def _photograph(rng: np.random.Generator, light: np.ndarray, patient: Patient) -> np.ndarray:
    """Turn light into a photograph: aperture, exposure, haze, blur, shoulder, noise; uint8 RGB."""
    height, width = light.shape[:2]
    exposure = patient.gain * rng.uniform(0.88, 1.12)
    haze = rng.beta(1.2, 4.5) * 0.36
    veil = haze * np.array([0.50, 0.40, 0.30], np.float32) * rng.normal(1.0, [0.1, 0.2, 0.3]).astype(np.float32)
    light = light * (exposure * (1.0 - haze) * patient.balance) + veil
    light = light * _aperture(rng, width, height)[..., None]
    sigma = rng.uniform(0.35, 1.0) * width / 320
    light = ndimage.gaussian_filter(light, (sigma, sigma, 0), truncate=3.0)
    response = _response(rng.uniform(0.88, 1.08))
    # One factor for all three channels: bending each alone would turn bright discs green.
    brightest = light.max(axis=2)
    light *= response[(brightest * 512).astype(np.int16).clip(0, 1023)][..., None]
    spread = rng.uniform(0.004, 0.014)
    light += (0.8 * spread) * rng.standard_normal((height, width, 1), dtype=np.float32)
    light += (1.7 * spread) * (rng.random(light.shape, dtype=np.float32) - 0.5)
    return (light * 255.0 + 0.5).clip(0, 255).astype(np.uint8)


def _response(gamma: float) -> np.ndarray:
    """Return the gain of the film for 1024 levels of light in [0, 2), with a soft shoulder, float32.

    A hard clip would erase the edge of the cup in bright pictures.
    """
    level = (np.arange(1024) + 0.5) / 512
    return (level ** (gamma - 1.0) / (1.0 + level**3.5) ** (1 / 3.5)).astype(np.float32)


def _aperture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return the camera's round field, 1 inside and about 0 in the black corners that some pictures have."""
    visible = rng.random() < 0.35
    radius = rng.uniform(0.53, 0.66) if visible else 2.0
    centre = [float(part) for part in rng.normal(0.5, 0.02, 2)]
    x = (np.arange(width, dtype=np.float32) + 0.5) / width - centre[0]
    y = ((np.arange(height, dtype=np.float32) + 0.5) / height - centre[1]) * height / width
    distance = np.hypot(x[None, :], y[:, None])
    return 1.0 - 0.985 * _step(distance, radius, 0.008)
