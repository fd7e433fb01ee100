"""What the probe hears of the resting heart: the tissue's echo, and what the patient's view does to it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates, zoom

from echosdk_phantom.anatomy import Array, Patient, borders, label_map, row_of, unplace
from echosdk_phantom.view import decibel, pixels, polar

DEPTHS, BEAMS = 300, 220  # the grid of scatterers
RASTER = 264  # samples of the echo's image a side, which covers -0.1 .. 1.1
AXIAL, LATERAL = 1.6, 3.3  # widths of the point spread, in depths and beams
LOOKS = 2  # a scanner adds up several looks at the same tissue, which calms the speckle


@lru_cache(maxsize=8)
def _tissue(p: Patient) -> Array:
    """Return the amplitude of the scatterers on the grid of depths and beams, at end-diastole."""
    depth, angle = np.meshgrid(
        np.linspace(0, 1.15, DEPTHS), np.linspace(-1, 1, BEAMS) * (p.sector_angle + 0.2), indexing="ij"
    )
    column, row = p.sector_x + depth * np.sin(angle), p.sector_y + depth * np.cos(angle)
    x, z = unplace(p, column, row)
    b = borders(p)
    label = label_map(p, x, z)
    line = row_of(z)
    across = x - b.axis[line]
    septal = (across < 0).astype(int)
    distance = np.abs(across)
    inner, outer, far = b.inner[septal, line], b.outer[septal, line], b.far[septal, line]
    coarse, fine = _own_texture(p, 3, 11), _own_texture(p, 6, 27)

    own = 4.5 * map_coordinates(coarse, [row * 10, column * 10], order=1, mode="nearest")
    own += 3.5 * map_coordinates(fine, [row * 26, column * 26], order=1, mode="nearest")
    level = np.full(depth.shape, p.outside_db)
    # Near the probe and around the apex: haze, which thins with depth and to the sides
    level += (p.haze_db - p.outside_db) * np.exp(-((np.hypot(column - p.apex_x, row - p.apex_y) / 0.30) ** 2))
    # Behind the heart: pericardium and what lies under it
    behind = z - b.roof + 0.03 + 0.12 * ((x + 0.02) / 0.25) ** 2
    level = np.where(
        behind > 0, np.maximum(level, p.pericardium_db - 130 * np.clip(behind, 0, None) - 250 * (x + 0.03) ** 2), level
    )
    # Beside the free wall
    beside = np.where((septal == 0) & (z > 0), np.clip(distance - outer, 0, None), np.inf)
    level = np.maximum(level, np.where(beside < 0.2, p.free_wall_db - 4 - 150 * beside, -99))
    level[label == 2] = np.where(septal == 1, p.septum_db, p.free_wall_db)[label == 2]
    apical = (label == 2) & (z < 0.25 * b.annulus)
    level[apical] -= (6 * (1 - z / (0.25 * b.annulus)))[apical]
    right_wall = (
        (septal == 1)
        & (distance >= far)
        & (distance < far + p.rv_wall)
        & (z > p.rv_start * b.annulus)
        & (z < b.roof - 0.03)
    )
    level[right_wall] = p.rv_wall_db
    atrial_wall = (z > b.annulus) & (distance >= inner) & (distance < outer)
    level[atrial_wall] = np.where(septal == 1, p.septum_db - 8, p.pericardium_db - 14)[atrial_wall]
    crux = np.exp(-(((z - b.annulus) / 0.03) ** 2)) * (septal == 1) * (label != 1)
    level += np.where(atrial_wall | (label == 2), 6 * crux, 0)
    level += own
    blood = (label == 1) | (label > 2)
    # Reverberation lays a veil over the cavities near the probe
    veil = p.haze_db - 5 - 60 * np.clip(depth - 0.12, 0, None) + own
    level[blood] = np.maximum(p.blood_db, veil)[blood]
    papillary = np.hypot((across - inner * 0.72) / 0.8, (z - p.papillary_place * b.annulus) / 2.5) < p.papillary_size
    level[papillary & (label == 1) & (septal == 0)] = p.papillary_db

    amplitude = decibel(level)
    # Borders that face the beam shine, those along it fade
    solid = gaussian_filter((~blood).astype(np.float32), (2.0, 1.5))
    facing = np.abs(np.gradient(solid, axis=0)) * 6
    amplitude *= 1 + (decibel(p.specular_db) - 1) * np.clip(facing, 0, 1)
    return amplitude.astype(np.float32)


def _own_texture(p: Patient, stream: int, count: int) -> Array:
    """Draw a patient's own coarse texture, `count` knots a side, of unit variance."""
    return np.random.default_rng([p.seed, p.number, 3, stream]).standard_normal((count, count)).astype(np.float32)


@lru_cache(maxsize=8)
def gain_map(p: Patient, size: int) -> Array:
    """Return what probe, gain and view do to each pixel, in dB: depth, beam edges, shadow and dropout."""
    column, row = pixels(size)
    depth, angle = polar(p, column, row)
    side = angle / p.sector_angle
    gain = p.gain_db + p.depth_slope * depth
    gain -= np.where(side < 0, p.left_falloff, p.right_falloff) * np.abs(side) ** 3
    shadow = np.exp(-(((angle - p.shadow_angle * p.sector_angle) / p.shadow_width) ** 2))
    gain -= p.shadow_db * shadow * np.clip((depth - p.shadow_start) / 0.15, 0, 1)
    gain -= p.dropout_db * np.exp(-(((column - p.dropout_x) ** 2 + (row - p.dropout_y) ** 2) / p.dropout_size**2))
    coarse = zoom(_own_texture(p, 4, 7), size / 7, order=3, mode="nearest", grid_mode=True)
    own: Array = (gain + 3.2 * coarse.ravel()).astype(np.float32)
    return own


def echo_image(p: Patient, random: np.random.Generator) -> Array:
    """Draw the scatterers and return the power of their echo, `RASTER` samples a side over -0.1 .. 1.1.

    Scatterers are Gaussian noise times the tissue's amplitude, blurred by the probe's point spread; being the same
    number of beams wide everywhere, it widens with depth.
    """
    tissue = _tissue(p)
    power = np.zeros_like(tissue)
    for _ in range(2 * LOOKS):
        part = random.standard_normal(tissue.shape, dtype=np.float32) * tissue
        part = gaussian_filter1d(part, AXIAL, axis=0, truncate=3)
        power += gaussian_filter1d(part, LATERAL, axis=1, truncate=3) ** 2
    power *= 2 * np.pi * AXIAL * LATERAL / LOOKS  # the blur takes away as much of the noise's power
    side = np.linspace(-0.1, 1.1, RASTER, dtype=np.float32)
    depth, angle = polar(p, *np.meshgrid(side, side))
    grid = [depth * ((DEPTHS - 1) / 1.15), (angle / (p.sector_angle + 0.2) + 1) * ((BEAMS - 1) / 2)]
    image: Array = map_coordinates(power, grid, order=1, mode="constant").astype(np.float32)
    return image
