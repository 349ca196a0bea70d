/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's tests/unit/test-vmstate.c as a header, without its warnings. */
#pragma GCC system_header

int unit_test_main(int argc, char **argv);
#define main unit_test_main
#include REFERENCE_UNIT_TEST
#undef main
