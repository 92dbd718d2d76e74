"""Films stored in an odd way are read as their plain copy is, or with a warning or an error: no wrong age is quiet."""

import io
import logging

import numpy as np
import pandas as pd
import pytest
import tifffile
from dicom_file import dicom
from PIL import Image

pytestmark = pytest.mark.real

FILMS, MONTHS = 60, 6.0
WHITE_IS_ZERO = 0


def png(levels):
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(levels)).save(stream, "png")
    return stream.getvalue()


def tiff(levels, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, levels, **options)
    return stream.getvalue()


def resized(film, width, height):
    return np.asarray(Image.fromarray(film).resize((width, height), Image.Resampling.LANCZOS))


def shrunk(film, px):
    scale = px / max(film.shape)
    return resized(film, round(film.shape[1] * scale), round(film.shape[0] * scale))


def with_margin(film, share, level, noise=0):
    rows, columns = (round(share * side) for side in film.shape)
    wide = np.pad(film, ((rows, rows), (columns, columns)), constant_values=level)
    moved = wide + np.random.default_rng(0).normal(0, noise, wide.shape)
    inside = np.zeros(wide.shape, bool)
    inside[rows : rows + film.shape[0], columns : columns + film.shape[1]] = True
    return np.where(inside, wide, moved).clip(0, 255).astype(np.uint8)


def deep(film, bits):
    """The film in more bits, with a smooth pattern in the lower ones."""
    top = 2**bits - 1
    return (film.astype(np.float64) * top / 255).round().astype(np.uint16)


def variants(film):
    """The film, stored in ways that users and archives do: name to bytes. `plain` comes first."""
    bits12, bits16 = deep(film, 12), deep(film, 16)
    offset = (bits12.astype(np.int32) - 1024).astype(np.int16)
    window = {"WindowCenter": "-2048", "WindowWidth": "4096"}
    yield "plain", png(film)
    yield "BitsStored 10, values of 12", dicom(bits12, BitsStored=10, HighBit=9)
    yield "BitsStored 8, values of 12", dicom(bits12, BitsStored=8, HighBit=7)
    yield "BitsStored 12, values of 16", dicom(bits16, BitsStored=12, HighBit=11)
    yield "HighBit 15, values in the lower 12", dicom(bits12, BitsStored=12, HighBit=15)
    yield "HighBit 11, values in the upper 12", dicom(bits12 << 4, BitsStored=12, HighBit=11)
    yield "declared signed, values of 16", dicom(bits16, PixelRepresentation=1)
    yield "declared signed, values of 12", dicom(bits12, BitsStored=12, HighBit=11, PixelRepresentation=1)
    yield "declared unsigned, negative values", dicom(offset.view(np.uint16))
    yield "bytes swapped", dicom(bits12.byteswap())
    yield "MONOCHROME1", dicom(4095 - bits12, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1")
    yield "MONOCHROME1 that is none", dicom(bits12, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1")
    yield "MONOCHROME2 of a negative", dicom(4095 - bits12, BitsStored=12, HighBit=11)
    yield "negative slope, window", dicom(4095 - bits12, RescaleSlope="-1", RescaleIntercept="0", **window)
    yield "INVERSE under MONOCHROME2", dicom(4095 - bits12, PresentationLUTShape="INVERSE")
    yield "INVERSE, contradicted", dicom(bits12, PresentationLUTShape="INVERSE")
    yield "TIFF of 16 bits, WhiteIsZero", tiff(65535 - bits16, photometric=WHITE_IS_ZERO)
    yield "TIFF of floats, WhiteIsZero", tiff(1 - film.astype(np.float32) / 255, photometric=WHITE_IS_ZERO)
    yield "PNG of 16 bits", png(bits16)
    yield "PNG of 12 of 16 bits", png(bits12)
    yield "PNG of a negative", png(255 - film)
    yield "224 px", png(shrunk(film, 224))
    yield "128 px", png(shrunk(film, 128))
    yield "squeezed to 224 x 224", png(resized(film, 224, 224))
    yield "squeezed to 600 x 610", png(resized(film, 600, 610))
    yield "black margin of 25 %", png(with_margin(film, 0.25, 0))
    yield "black margin of 25 %, noise", png(with_margin(film, 0.25, 4, noise=3))
    yield "white margin of 30 %", png(with_margin(film, 0.3, 255))
    yield "white margin of 30 %, noise", png(with_margin(film, 0.3, 245, noise=4))
    yield (
        "MONOCHROME1 with a white margin",
        dicom(255 - with_margin(film, 0.3, 255), PhotometricInterpretation="MONOCHROME1"),
    )


@pytest.fixture(scope="module")
def films(real_data, tmp_path_factory):
    """Radiographs of the test split as their files hold them, with their sex."""
    from baa.data.sources.rsna import read_rsna
    from baa.data.splits import assign_splits

    cases, _ = read_rsna(real_data / "rsna-384")
    test = [case for case in assign_splits(cases, by="hash", seed=0, val_share=0.05, test_share=0.06) if case.split == "test"]
    chosen = np.random.default_rng(1).permutation(len(test))[:FILMS]
    return [(np.asarray(Image.open(io.BytesIO(test[i].image.read())).convert("L")), test[i].sex) for i in chosen]


def test_no_wrong_age_is_quiet(films):
    from baa import load_model

    model = load_model(device="cpu")
    rows = []
    for film, sex in films:
        names, stored = zip(*variants(film), strict=True)
        plain, *others = model.predict(list(stored), sex=[sex] * len(stored))
        for name, other in zip(names[1:], others, strict=True):
            off = abs(other.months - plain.months) if not other.error else np.nan
            quiet = not other.error and not other.warnings
            rows.append({"variant": name, "off": off, "refused": bool(other.error), "warned": bool(other.warnings)})
            rows[-1]["quiet_and_wrong"] = quiet and off > MONTHS
    table = pd.DataFrame(rows).groupby("variant", sort=False)
    counted = table.agg({"off": ["median", "max"], "refused": "sum", "warned": "sum", "quiet_and_wrong": "sum"})
    logging.getLogger(__name__).info("\n%s", counted.round(2).to_string())
    wrong = counted["quiet_and_wrong"]["sum"]
    assert not wrong.any(), wrong[wrong > 0].to_string()
