/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's functions for the big QEMU lock, which the bridge gives to _state. */
#ifndef QV_BQL_FUNCTIONS_H
#define QV_BQL_FUNCTIONS_H

typedef struct QvBql {
    void (*lock)(void);
    void (*unlock)(void);
    int (*locked)(void);
} QvBql;

#endif
