# SPDX-License-Identifier: GPL-2.0-or-later
"""The C devices of c_reference save what QEMU's own tests expect."""

from __future__ import annotations

import pytest

from .. import c_reference
from . import section

TABLES = {
    "wire_simple_primitive": "simple/primitive",
    "wire_simple_arr": "simple/array",
    "test_load_v2.buf": "test/versioned",
    "test_save_skip.expected": "test/skip",
    "wire_arr_ptr_no0": "test/arps",
    "wire_arr_ptr_0": "test/arps with NULL",
    "wire_q": "test/queue",
    "first_domain_dump": "domain",
    "iommu_dump": "iommu",
    "qlist_dump": "test/container/qlist",
    "test_tmp_struct.wire_with_tmp": "test/with_tmp",
}


@pytest.mark.parametrize(("wire", "table"), TABLES.items())
def test_c_saves_what_qemus_tests_expect(wire: str, table: str) -> None:
    data, description = c_reference.device(table).save_made()
    assert data == section(wire)
    assert description["vmsd_name"] == table.removesuffix(" with NULL")


def test_c_loads_what_it_saved_and_refuses_what_is_cut_short() -> None:
    reference = c_reference.device("mixed")
    values = {"serial": 7, "pair": {"x": 1, "y": 2}, "regs": [0, 0, 3, 4, 5, 0, 0, 0], "last": -1}
    slots = {"slots": [{"x": 1, "y": 2}, None, {"x": 3, "y": 4}]}
    data, _ = reference.save(reference.make({**values, **slots}))
    loaded = reference.make(slots)
    reference.load(loaded, data)
    assert c_reference.read(loaded, values) == values
    for length in range(len(data)):
        with pytest.raises(c_reference.CError):
            reference.load(reference.make(slots), data[:length])
    with pytest.raises(c_reference.CError):
        reference.load(reference.make(slots), data + b"\1")
