/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which of an object's own subsections are in the stream. */
#ifndef QV_SUBSECTIONS_H
#define QV_SUBSECTIONS_H

#include "bridge/object.h"

/* Which subsections are needed because they are not as at rest. */
void qv_object_compare_subsections(QvObject *object);

#endif
