/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_STRUCT_JSON_H
#define QV_STRUCT_JSON_H

#include "bridge/struct_packer.h"

/* Return whether qv_struct_describe() may be called: whether it knows the layout of a JSONWriter. */
bool qv_can_append_json(void);
/* Write what vmstate_save_state() writes with packer->walked into the current JSON object. */
void qv_struct_describe(JSONWriter *vmdesc, const QvPacker *packer, const unsigned char *pv);

#endif
