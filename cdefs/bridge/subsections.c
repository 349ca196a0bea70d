/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which of an object's own subsections are in the stream. */
#include "bridge/subsections.h"
#include "bridge/numbered.h"

void qv_object_set_needed(QvObject *object, int number, int needed)
{
    uint64_t bit = 1ull << number;

    object->extras->needed = needed ? object->extras->needed | bit : object->extras->needed & ~bit;
}

void qv_object_compare_subsections(QvObject *object)
{
    const QvObjectClass *object_class = object->object_class;
    size_t i;

    for (i = 0; i < object_class->n_subsections; i++) {
        const QvRange *range = &object_class->subsections[i];

        if (range->size) {
            qv_object_set_needed(object, i,
                                 memcmp(object->staging + range->offset,
                                        object_class->image->bytes + range->offset, range->size)
                                     != 0);
        }
    }
}

/* needed() does not get the subsection that it is called for: each number has its own function. */
#define NEEDED(octal)                                             \
    static bool needed_##octal(void *opaque)                      \
    {                                                             \
        return qv_object_of(opaque)->extras->needed >> octal & 1; \
    }
QV_SIXTY_FOUR(NEEDED)

QvNeeded *qv_needed_at(int number)
{
#define ENTRY(octal) needed_##octal,
    static QvNeeded *const all[QV_MOST_SUBSECTIONS] = { QV_SIXTY_FOUR(ENTRY) };

    return number >= 0 && number < QV_MOST_SUBSECTIONS ? all[number] : NULL;
}

bool qv_always(void *opaque)
{
    return true;
}
