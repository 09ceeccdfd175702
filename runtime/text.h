// SPDX-License-Identifier: Apache-2.0
// Texts of others that are shown on terminals.
#ifndef BAILEY_RUNTIME_TEXT_H
#define BAILEY_RUNTIME_TEXT_H

// Replaces control characters, but for those in `keep`, by question marks.
void text_make_harmless(char *text, const char *keep);

#endif
