// SPDX-License-Identifier: Apache-2.0
// Names of signals.
#ifndef BAILEY_RUNTIME_SIGNALS_H
#define BAILEY_RUNTIME_SIGNALS_H

// The number of a signal by number or name, with or without SIG, in any case ("9", "KILL", "sigkill", "RTMIN+1");
// -1 when there is no such signal. 0 is none, as in kill(2).
int signals_parse(const char *text);

#endif
