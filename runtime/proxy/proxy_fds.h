// SPDX-License-Identifier: Apache-2.0
// The descriptors that bailey-proxy starts with.
#ifndef BAILEY_RUNTIME_PROXY_PROXY_FDS_H
#define BAILEY_RUNTIME_PROXY_PROXY_FDS_H

#define PROXY_CONTROL_FD 3
#define PROXY_TTY_FD 4
#define PROXY_EXIT_FD 5

#endif
