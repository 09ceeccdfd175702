// SPDX-License-Identifier: Apache-2.0
#include "wire/control.h"

#include <errno.h>

static void visit_control(struct codec *c, struct control_message *m)
{
    u32 magic = CONTROL_MAGIC;
    u16 version = CONTROL_VERSION;
    codec_u32(c, &magic);
    codec_u16(c, &version);
    if (c->mode == CODEC_DECODE && (magic != CONTROL_MAGIC || version != CONTROL_VERSION))
        codec_fail(c, -EBADMSG);
    codec_u32(c, &m->type);
    codec_u32(c, &m->id);
    codec_s32(c, &m->error);
    codec_u32_max(c, &m->flags, CONTROL_FLAGS_ALL);
    codec_u32_max(c, &m->signal, 64);
    codec_u32(c, &m->pid);
    codec_u32(c, &m->root_pid);
    codec_u16(c, &m->rows);
    codec_u16(c, &m->columns);
    codec_u32_max(c, &m->status, 0xffff);
    codec_bool(c, &m->more);
    codec_str(c, &m->container, CONTROL_CONTAINER_MAX);
    for (u32 i = 0; i < CONTROL_VALUES; i++)
        codec_u64(c, &m->values[i]);
    codec_str(c, &m->text, CONTROL_TEXT_MAX);
}

int control_encode(const struct control_message *m, void *buf, size_t capacity)
{
    struct codec c;
    struct control_message copy = *m;
    codec_init_encode_fixed(&c, buf, min(capacity, (size_t)CONTROL_SIZE_MAX));
    visit_control(&c, &copy);
    return c.error ? c.error : (int)c.size;
}

int control_decode(const void *buf, size_t size, struct control_message *ret)
{
    struct codec c;
    *ret = (struct control_message){0};
    codec_init_decode(&c, buf, size);
    visit_control(&c, ret);
    if (!codec_finished(&c))
        codec_fail(&c, -EBADMSG);
    if (ret->error > 0 || ret->error < -4095)
        codec_fail(&c, -EBADMSG);
    return c.error;
}
