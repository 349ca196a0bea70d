/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Decides which of an object's own subsections are in the stream. */
#ifndef QV_SUBSECTIONS_H
#define QV_SUBSECTIONS_H

#include "bridge/object.h"

/* Set which subsections are needed because their content is not the initial one. */
void qv_object_compare_subsections(QvObject *object);

#endif
