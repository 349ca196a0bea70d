/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A QEMUFile whose stream is in memory. */
#ifndef QV_MEMORY_FILE_H
#define QV_MEMORY_FILE_H

#include "bridge/qemu.h"

typedef struct QvMemoryFile {
    QEMUFile *f;
    QIOChannelBuffer *channel; /* has the stream */
    bool probed;               /* qv_memory_file_left() has added its byte */
} QvMemoryFile;

/* Return a file to write to; the caller owns it and ends with one of the two functions below. */
QvMemoryFile *qv_memory_file_to_write(void);
/* Return a file to read a copy of data from. */
QvMemoryFile *qv_memory_file_to_read(const unsigned char *data, size_t size);
/* Return how many bytes are left of data; negative if QEMU has read past it. */
ssize_t qv_memory_file_left(QvMemoryFile *file);
/* Keep a file without errors for the next call, or free it. */
void qv_memory_file_end_write(QvMemoryFile *file);
void qv_memory_file_end_read(QvMemoryFile *file);

#endif
