/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_SYMBOLS_H
#define QV_SYMBOLS_H

/*
 * Where the running executable has name: what it exports, else what its
 * .symtab lists (a QEMU built without --enable-modules exports the plugin API
 * only).  NULL if it has none, or is stripped.
 */
void *qv_find_symbol(const char *name);

#endif
