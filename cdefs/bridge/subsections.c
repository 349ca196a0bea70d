/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which of an object's own subsections are in the stream. */
#include "bridge/subsections.h"

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
#define EIGHT(X, tens) \
    X(tens##0) X(tens##1) X(tens##2) X(tens##3) X(tens##4) X(tens##5) X(tens##6) X(tens##7)
#define ALL(X)   \
    EIGHT(X, 00) \
    EIGHT(X, 01) EIGHT(X, 02) EIGHT(X, 03) EIGHT(X, 04) EIGHT(X, 05) EIGHT(X, 06) EIGHT(X, 07)

#define NEEDED(octal)                                             \
    static bool needed_##octal(void *opaque)                      \
    {                                                             \
        return qv_object_of(opaque)->extras->needed >> octal & 1; \
    }
ALL(NEEDED)

QvNeeded *qv_needed_at(int number)
{
#define ENTRY(octal) needed_##octal,
    static QvNeeded *const all[QV_MOST_SUBSECTIONS] = { ALL(ENTRY) };

    return number >= 0 && number < QV_MOST_SUBSECTIONS ? all[number] : NULL;
}

bool qv_always(void *opaque)
{
    return true;
}
