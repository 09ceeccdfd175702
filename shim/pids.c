// SPDX-License-Identifier: Apache-2.0
// The processes of a container, and which of them are execs.
//
// With runc the number that Start has told is that of the process itself. With bailey it is that of a proxy, whose end
// is that of the process, while `ps` names the host processes that run the guests' code. The proxy's command line says
// which of the container's processes it stands for, and the table of `ps` where that one runs.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim.pb-c.h"
#include "shim/operations.h"
#include "shim/small_file.h"

#define PROXY "bailey-proxy"

pid_t proxy_guest(pid_t pid)
{
    char path[32], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    size_t n = small_file_read(path, text, sizeof(text));
    if (!n)
        return 0;
    const char *id = text + strlen(text) + 1; // bailey-proxy CONTAINER PID REQUEST
    const char *number = id < text + n ? id + strlen(id) + 1 : text + n;
    return strcmp(text, PROXY) == 0 && number < text + n ? (pid_t)strtol(number, NULL, 10) : 0;
}

static void begin_pids(struct op *op)
{
    const struct container *c = op->process->container;
    op->execs = calloc(c->exec_count + 1, sizeof(*op->execs));
    for (struct process *p = c->execs; p && op->execs; p = p->next) {
        if (!p->pid || p->exited)
            continue;
        pid_t guest = proxy_guest(p->pid);
        op->execs[op->exec_count++] = (struct exec_pid){
            .told = p->pid, .guest = guest, .host = guest ? 0 : p->pid};
        op->has_proxies |= guest > 0;
    }
}

// The column of this name, or -1.
static int find_column(const struct ocirt_doc *table, const char *name)
{
    size_t count = ocirt_doc_count(table, "/Headers");
    for (size_t i = 0; i < count; i++) {
        char pointer[32];
        snprintf(pointer, sizeof(pointer), "/Headers/%zu", i);
        const char *header = ocirt_doc_string(table, pointer);
        if (header && strcmp(header, name) == 0)
            return (int)i;
    }
    return -1;
}

static pid_t read_cell(const struct ocirt_doc *table, size_t row, int column)
{
    char pointer[64];
    snprintf(pointer, sizeof(pointer), "/Processes/%zu/%d", row, column);
    const char *text = ocirt_doc_string(table, pointer);
    return text ? (pid_t)strtol(text, NULL, 10) : 0;
}

// Finds where the processes of proxies run.
static void find_hosts(struct op *op, const struct ocirt_doc *table)
{
    int host = find_column(table, "PID"), guest = find_column(table, "GUEST");
    size_t rows = host < 0 || guest < 0 ? 0 : ocirt_doc_count(table, "/Processes");
    for (size_t row = 0; row < rows; row++) {
        pid_t number = read_cell(table, row, guest);
        for (size_t i = 0; i < op->exec_count; i++)
            if (op->execs[i].guest && op->execs[i].guest == number)
                op->execs[i].host = read_cell(table, row, host);
    }
}

static void run_pids(struct op *op)
{
    struct container *c = op->process->container;
    struct tools t = tools_new(op);
    int r = ocirt_ps(c->rt, c->id, t.o, &op->pids, &op->pid_count, t.e);
    if (r < 0)
        op_fail_runtime(op, "OCI runtime ps failed", r, t.e);
    struct ocirt_doc *table = NULL;
    if (r == 0 && op->has_proxies && ocirt_top(c->rt, c->id, NULL, t.o, &table, t.e) == 0) {
        find_hosts(op, table);
        ocirt_doc_free(table);
    }
    tools_free(&t);
}

// The number that Start has told of the exec that runs as `host`; 0: none.
static pid_t told_pid(const struct op *op, pid_t host)
{
    for (size_t i = 0; i < op->exec_count; i++)
        if (op->execs[i].host == host)
            return op->execs[i].told;
    return 0;
}

// The ID of the exec that runs as this process, packed as containerd's ProcessDetails; false: none.
static bool exec_details(const struct op *op, pid_t host, Pb__Any *any)
{
    Pb__ProcessDetails details = PB__PROCESS_DETAILS__INIT;
    pid_t told = told_pid(op, host);
    for (struct process *p = told ? op->process->container->execs : NULL; p; p = p->next) {
        if (p->pid != told)
            continue;
        details.exec_id = p->exec_id;
        any->value.data = malloc(protobuf_c_message_get_packed_size(&details.base) + 1);
        if (!any->value.data)
            return false;
        any->value.len = protobuf_c_message_pack(&details.base, any->value.data);
        any->type_url = (char *)"containerd.runc.v1.ProcessDetails";
        return true;
    }
    return false;
}

static void done_pids(struct op *op)
{
    if (op->code) {
        call_fail(op->call, op->code, "%s", op->error);
        return;
    }
    size_t n = op->pid_count;
    Pb__PidsResponse response = PB__PIDS_RESPONSE__INIT;
    Pb__ProcessInfo *infos = calloc(n + 1, sizeof(*infos)),
                    **pointers = calloc(n + 1, sizeof(void *));
    Pb__Any *details = calloc(n + 1, sizeof(*details));
    if (infos && pointers && details) {
        for (size_t i = 0; i < n; i++) {
            pb__process_info__init(&infos[i]);
            pb__any__init(&details[i]);
            infos[i].pid = (uint32_t)op->pids[i];
            if (exec_details(op, op->pids[i], &details[i]))
                infos[i].info = &details[i];
            pointers[i] = &infos[i];
        }
        response.n_processes = n;
        response.processes = pointers;
        call_reply(op->call, &response.base);
    } else {
        call_fail(op->call, RPC_EXHAUSTED, "out of memory");
    }
    for (size_t i = 0; details && infos && pointers && i < n; i++)
        free(details[i].value.data);
    free(infos);
    free(pointers);
    free(details);
}

const struct op_kind op_pids = {"list the processes of",
                                IN(CREATED) | IN(RUNNING) | IN(PAUSED),
                                false,
                                begin_pids,
                                run_pids,
                                done_pids};
