/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's JSON has one entry for an array, that of the first element, unless vmsd_can_compress() says
 * that elements differ: if the field has a field_exists, or a field of the elements' struct.
 */
#include "bridge/varying.h"
#include "bridge/numbered.h"

#define EXISTS(octal)                                              \
    static bool exists_since_##octal(void *opaque, int version_id) \
    {                                                              \
        return version_id >= octal;                                \
    }
QV_SIXTY_FOUR(EXISTS)

QvExists *qv_exists_since(int version_id)
{
#define ENTRY(octal) exists_since_##octal,
    static QvExists *const all[] = { QV_SIXTY_FOUR(ENTRY) };

    return version_id >= 0 && version_id < G_N_ELEMENTS(all) ? all[version_id] : NULL;
}

bool qv_field_asks(const VMStateField *field)
{
    return field->field_exists && field->field_exists != qv_exists_since(field->version_id);
}

/* A condition that is always met: QEMU's field without elements, bytes and JSON.  No field of ours
 * has an empty name. */
void qv_set_varying(VMStateField *field)
{
    *field = (VMStateField)VMSTATE_VALIDATE("", exists_since_000);
}
