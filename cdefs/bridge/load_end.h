/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The end of a load of all registered objects.  These functions do nothing if no load runs. */
#ifndef QV_LOAD_END_H
#define QV_LOAD_END_H

#include "bridge/object.h"

/* Make the objects new that the stream lacks, and tell all that the load is certain. */
void qv_load_succeeded(void);
/* Roll all objects back that were restored, and tell them. */
void qv_load_failed(void);

#endif
