/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replaces one of QEMU's stubs in our build of its migration code, so that save() and load() can
 * return what error_report() would print: stubs/error-printf.c, or from 11.0 on
 * stubs/monitor-core.c.
 */
#include "qemu/osdep.h"
#include "bridge/qemu_version.h"
#include "qemu/error-report.h"
#include "qapi/qapi-emit-events.h"
#include "monitor/monitor.h"

void (*qv_report_sink)(const char *text);

static int G_GNUC_PRINTF(1, 0) report(const char *fmt, va_list ap)
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

#if QV_REPORTS_TO_MONITOR
int monitor_vprintf(Monitor *mon, const char *fmt, va_list ap)
{
    return report(fmt, ap);
}

Monitor *monitor_cur(void)
{
    return NULL;
}

Monitor *monitor_set_cur(Coroutine *co, Monitor *mon)
{
    return NULL;
}

#if QV_HAS_CUR_IS_QMP
bool monitor_cur_is_qmp(void)
{
    return false;
}
#endif

void qapi_event_emit(QAPIEvent event, QDict *qdict)
{
}
#else
int error_vprintf(const char *fmt, va_list ap)
{
    return report(fmt, ap);
}

int error_vprintf_unless_qmp(const char *fmt, va_list ap)
{
    return report(fmt, ap);
}
#endif
