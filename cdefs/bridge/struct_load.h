/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_STRUCT_LOAD_H
#define QV_STRUCT_LOAD_H

#include "bridge/struct_packer.h"

/*
 * Load the struct at pv, as vmstate_load_state() does with packer->walked: return what it returns, set
 * the same Error, and have read as much of f.
 */
int qv_struct_load(QEMUFile *f, const QvPacker *packer, unsigned char *pv, Error **errp);

#endif
