#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns JSON schemas of the OCI runtime specification into C tables for runtime/spec/schema.c.

usage: gen-schema.py DIRECTORY OUTPUT NAME=FILE...

Each NAME becomes `const struct schema NAME`, generated from DIRECTORY/FILE.
"""
import json
import os
import sys


# What clients really write: podman's file modes carry the type bits of stat(2).
RELAXED = {"FileMode": 0o177777}
# ... and podman and runc take mount(8)'s recursive words for the root's propagation, too.
MORE_WORDS = {"RootfsPropagation": ["rprivate", "rshared", "rslave", "runbindable"]}


class Generator:
    def __init__(self, directory):
        self.directory = directory
        self.files = {}
        self.lines = []
        self.by_key = {}
        self.count = 0

    def load(self, name):
        if name not in self.files:
            with open(os.path.join(self.directory, name)) as f:
                self.files[name] = json.load(f)
            for definition, maximum in RELAXED.items():
                if definition in self.files[name].get("definitions", {}):
                    self.files[name]["definitions"][definition]["maximum"] = maximum
            for definition, words in MORE_WORDS.items():
                if definition in self.files[name].get("definitions", {}):
                    self.files[name]["definitions"][definition]["enum"] += words
        return self.files[name]

    def resolve(self, node, file):
        while "$ref" in node:
            target, path = node["$ref"].split("#")
            file = target or file
            node = self.load(file)
            for part in path.strip("/").split("/"):
                node = node[part]
        return node, file

    def merged(self, node, file):
        """The node with references followed and allOf folded in; properties carry their file."""
        node, file = self.resolve(node, file)
        if "anyOf" in node and len(node["anyOf"]) == 1:
            return self.merged(node["anyOf"][0], file)
        out = {k: v for k, v in node.items() if k not in ("allOf", "properties", "required")}
        out["properties"] = {k: (v, file) for k, v in node.get("properties", {}).items()}
        out["required"] = list(node.get("required", []))
        for part in node.get("allOf", []):
            other = self.merged(part, file)[0]
            out["properties"].update(other["properties"])
            out["required"] += other["required"]
            out.setdefault("type", other.get("type"))
        return out, file

    def string(self, text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def emit(self, node, file):
        """Emits the tables of a node and returns the C name of its struct schema."""
        node, file = self.merged(node, file)
        key = json.dumps(node, sort_keys=True) + file
        if key in self.by_key:
            return self.by_key[key]
        init = self.body(node, file)
        name = f"schema_{self.count}"
        self.count += 1
        self.by_key[key] = name
        self.lines.append(f"static const struct schema {name} = {{{init}}};")
        return name

    def body(self, node, file):
        kinds = {"object": "SCHEMA_OBJECT", "array": "SCHEMA_ARRAY", "string": "SCHEMA_STRING",
                 "integer": "SCHEMA_INTEGER", "boolean": "SCHEMA_BOOLEAN"}
        kind = node.get("type")
        if kind is None and node["properties"]:
            kind = "object"
        init = [f".kind = {kinds.get(kind, 'SCHEMA_ANY')}"]
        number = self.count
        if kind == "integer":
            low, high = node.get("minimum"), node.get("maximum")
            low = -(2**63) if low is None else low
            high = 2**63 - 1 if high is None else high
            init.append(".least = INT64_MIN" if low == -(2**63) else f".least = {low}")
            init.append(f".most = {high}u" if high < 2**32 else f".most = {high}ull")
        if "pattern" in node:
            init.append(f".pattern = {self.string(node['pattern'])}")
        if node.get("minItems"):
            init.append(f".min_items = {node['minItems']}")
        if "enum" in node:
            values = ", ".join(self.string(v) for v in node["enum"])
            key = f"choices_{self.unique()}"
            self.lines.append(f"static const char *const {key}[] = {{{values}, NULL}};")
            init.append(f".choices = {key}")
        if "items" in node:
            init.append(f".items = &{self.emit(node['items'], file)}")
        extra = node.get("additionalProperties")
        if isinstance(extra, dict):
            init.append(f".others = &{self.emit(extra, file)}")
        for pattern in node.get("patternProperties", {}).values():
            init.append(f".others = &{self.emit(pattern, file)}")
        if node["properties"]:
            fields = []
            for name, (child, where) in sorted(node["properties"].items()):
                required = "true" if name in node["required"] else "false"
                fields.append(f"    {{{self.string(name)}, &{self.emit(child, where)}, "
                              f"{required}}},")
            key = f"fields_{self.unique()}"
            self.lines.append(f"static const struct schema_field {key}[] = {{")
            self.lines += fields
            self.lines.append("};")
            init.append(f".fields = {key}, .field_count = {len(fields)}")
        return ", ".join(init)

    def unique(self):
        self.count += 1
        return self.count


def main():
    directory, output, roots = sys.argv[1], sys.argv[2], sys.argv[3:]
    g = Generator(directory)
    for root in roots:
        name, file = root.split("=")
        node, where = g.merged(g.load(file), file)
        g.lines.append(f"const struct schema {name} = {{{g.body(node, where)}}};")
    with open(output, "w") as f:
        f.write("// Generated by tools/gen-schema.py. Do not edit.\n")
        f.write('#include "runtime/spec/schema.h"\n\n')
        f.write("\n".join(g.lines) + "\n")


main()
