/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replaces QEMU's stubs/error-printf.c in our build of its migration code, so that save() and
 * load() can return what error_report() would print.
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
