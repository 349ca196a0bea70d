/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Linked into our build of QEMU's migration code in the place of its
 * stubs/error-printf.c: what error_report() would print goes to the caller of
 * save() and load() instead.
 */
#include <stdarg.h>
#include <stdio.h>

int error_vprintf(const char *fmt, va_list ap);
int error_vprintf_unless_qmp(const char *fmt, va_list ap);

void (*qv_report_sink)(const char *text);

int error_vprintf(const char *fmt, va_list ap)
{
    char text[1024];
    int ret;

    if (!qv_report_sink) {
        return vfprintf(stderr, fmt, ap);
    }
    ret = vsnprintf(text, sizeof(text), fmt, ap);
    qv_report_sink(text);
    return ret;
}

int error_vprintf_unless_qmp(const char *fmt, va_list ap)
{
    return error_vprintf(fmt, ap);
}
