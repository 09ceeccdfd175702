// SPDX-License-Identifier: Apache-2.0
#include "runtime/text.h"

#include <string.h>

void text_make_harmless(char *text, const char *keep)
{
    for (; *text; text++)
        if (((unsigned char)*text < ' ' && !strchr(keep, *text)) || *text == 0x7f)
            *text = '?';
}
