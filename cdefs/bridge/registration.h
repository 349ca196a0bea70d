/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_REGISTRATION_H
#define QV_REGISTRATION_H

#include "bridge/object.h"

/*
 * Call vmstate_register_with_alias_id() or vmstate_unregister().  Take the BQL unless this
 * thread has it.
 */
int qv_register(QvObject *object, uint32_t instance_id, char **errmsg);
int qv_unregister(QvObject *object, char **errmsg);

#endif
