"""The IR on disk: its weight inputs become constants one after another in the .bin file.

    openvino_model.xml   Parameter name=W   ->   Const name=W offset=O size=S
    openvino_model.bin   [OpenVINO's own small constants][W at O, a multiple of 64][...]

No weight is ever in memory as a whole: OpenVINO writes a graph without them, and they are streamed behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

from trt_dp.builders.cpu.weights import Blob

_ALIGNMENT = 64  # of the vector instructions that read them in place


def place(blobs: Iterable[Blob], start: int) -> tuple[dict[str, int], int]:
    """The offset of each blob, by name, and where the last one ends."""
    offsets = {}
    for blob in blobs:
        offsets[blob.name] = -(-start // _ALIGNMENT) * _ALIGNMENT
        start = offsets[blob.name] + blob.size
    return offsets, start


def fill_in(xml: Path, blobs: Iterable[Blob], offsets: dict[str, int]) -> None:
    """Turn the inputs that are weights into constants."""
    tree = ET.parse(xml)  # noqa: S314 - OpenVINO has just written it
    sizes = {blob.name: blob.size for blob in blobs}
    for layer in tree.iterfind("./layers/layer[@type='Parameter']"):
        name = layer.attrib["name"]
        if name in sizes:
            _make_constant(layer, offsets[name], sizes.pop(name))
    if sizes:
        msg = f"the graph has no inputs for {sorted(sizes)}"
        raise RuntimeError(msg)
    tree.write(xml, encoding="utf-8", xml_declaration=True)


def _make_constant(layer: ET.Element, offset: int, size: int) -> None:
    data = layer.find("data")
    if data is None:
        msg = f"the input {layer.attrib['name']} has no data"
        raise RuntimeError(msg)
    layer.set("type", "Const")
    data.set("offset", str(offset))
    data.set("size", str(size))
