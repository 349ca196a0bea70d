/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_SYMBOLS_H
#define QV_SYMBOLS_H

/*
 * Return the address of a symbol of the running executable: one that it exports, else one in
 * its .symtab, because a QEMU built without --enable-modules exports only the plugin API.
 * NULL if there is none, or the executable is stripped.
 */
void *qv_find_symbol(const char *name);

#endif
