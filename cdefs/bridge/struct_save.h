/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_STRUCT_SAVE_H
#define QV_STRUCT_SAVE_H

#include "bridge/struct_packer.h"

/* Save the struct at pv, as vmstate_save_state() does with packer->walked. */
void qv_struct_save(QEMUFile *f, const QvPacker *packer, const unsigned char *pv);
/* Put the first size bytes of what qv_struct_save() would save into memory. */
void qv_struct_save_prefix(const QvPacker *packer, const unsigned char *pv, unsigned char *memory,
                           size_t size);

#endif
