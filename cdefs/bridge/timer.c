/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A QEMUTimer whose callback is Python's, for use in a VM. */
#include "bridge/qemu.h"

/* extern "Python+C" of callbacks.h, defined by the cffi module. */
void qv_py_timer(void *handle);

struct QvTimer {
    QEMUTimer timer;
    void *handle; /* owner: Python, until qv_timer_free() */
};

static void expired(void *opaque)
{
    qv_py_timer(((QvTimer *)opaque)->handle);
}

static QEMUClockType clock_type(int clock)
{
    static const QEMUClockType types[] = {
        [QV_CLOCK_REALTIME] = QEMU_CLOCK_REALTIME,
        [QV_CLOCK_VIRTUAL] = QEMU_CLOCK_VIRTUAL,
        [QV_CLOCK_HOST] = QEMU_CLOCK_HOST,
        [QV_CLOCK_VIRTUAL_RT] = QEMU_CLOCK_VIRTUAL_RT,
    };

    g_assert(clock >= 0 && clock < G_N_ELEMENTS(types));
    return types[clock];
}

QvTimer *qv_timer_new(int clock, void *handle)
{
    QvTimer *timer = g_new0(QvTimer, 1);

    timer->handle = handle;
    qv.timer_init_full(&timer->timer, NULL, clock_type(clock), 1, 0, expired, timer);
    return timer;
}

/* The caller has the BQL, so the callback does not run at the same time. */
void qv_timer_free(QvTimer *timer)
{
    qv.timer_del(&timer->timer);
    qv.timer_deinit(&timer->timer);
    g_free(timer);
}

void qv_timer_mod_ns(QvTimer *timer, int64_t expire_time)
{
    if (expire_time == -1) {
        qv.timer_del(&timer->timer);
    } else {
        qv.timer_mod_ns(&timer->timer, expire_time);
    }
}

int64_t qv_timer_expire_time_ns(QvTimer *timer)
{
    return qv.timer_expire_time_ns(&timer->timer);
}

int64_t qv_clock_get_ns(int clock)
{
    return qv.qemu_clock_get_ns(clock_type(clock));
}
