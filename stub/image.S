// SPDX-License-Identifier: Apache-2.0
// The images that the sentry carries: the stub and the guest's vDSO.
    .section .rodata
    .balign 4096
    .globl stub_image, stub_image_end, vdso_image, vdso_image_end
stub_image:
    .incbin STUB_IMAGE
stub_image_end:
    .balign 4096
vdso_image:
    .incbin VDSO_IMAGE
vdso_image_end:
    .balign 4096
    .section .note.GNU-stack, "", @progbits
