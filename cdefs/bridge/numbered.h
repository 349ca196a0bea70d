/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions that differ only in a number: QEMU's predicates get no argument of ours, so that each
 * number needs its own.
 */
#ifndef QV_NUMBERED_H
#define QV_NUMBERED_H

#define QV_EIGHT(X, tens) \
    X(tens##0) X(tens##1) X(tens##2) X(tens##3) X(tens##4) X(tens##5) X(tens##6) X(tens##7)
/* X(octal) for each number from 0 to 63, as an octal constant. */
#define QV_SIXTY_FOUR(X) \
    QV_EIGHT(X, 00)      \
    QV_EIGHT(X, 01)      \
    QV_EIGHT(X, 02)      \
    QV_EIGHT(X, 03) QV_EIGHT(X, 04) QV_EIGHT(X, 05) QV_EIGHT(X, 06) QV_EIGHT(X, 07)

#endif
