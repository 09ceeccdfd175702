// SPDX-License-Identifier: Apache-2.0
// The images that the sentry carries, made by this folder's build.
#ifndef BAILEY_STUB_IMAGE_H
#define BAILEY_STUB_IMAGE_H

#include "base/types.h"

// The stub: begins with struct stub_header; to be mapped at STUB_TEXT.
extern const u8 stub_image[], stub_image_end[];

// The guest's vDSO: an ELF shared object.
extern const u8 vdso_image[], vdso_image_end[];

#endif
