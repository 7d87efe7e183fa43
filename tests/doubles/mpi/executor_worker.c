/* A stand-in for TensorRT-LLM's executorWorker: a rank that the double's Executor starts by MPI_Comm_spawn.

It joins MPI, treats SIGABRT and SIGSEGV as the real one does, loads nothing, answers each turn of rank 0 only after all
ranks have met, and leaves when told to. TRTLLM_DOUBLE_LOAD=oom: rank 1 throws while loading, which ends in abort().
Like the real one it needs a library beside the package, and has no path of its own to find it. */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOADED = 7, TURN = 8 };
extern int tensorrt_llm_stand_in(void);

static void leave_together(int kind) {
    (void)kind;
    MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
}

static void load(int rank) {
    const char *fault = getenv("TRTLLM_DOUBLE_LOAD");
    if (rank == 1 && fault && !strcmp(fault, "oom")) {
        fprintf(stderr, "terminate called after throwing an instance of 'tensorrt_llm::common::TllmException'\n"
                        "  what():  [TensorRT-LLM][ERROR] CUDA runtime error in cudaMalloc: out of memory (file.cpp:1)\n"
                        "1       0x7f0000000000 a stack frame\n");
        abort();
    }
}

static int next_turn(int rank, MPI_Comm parent) {
    int more = 0, there = 0;
    while (rank == 0 && !there) {
        MPI_Iprobe(0, TURN, parent, &there, MPI_STATUS_IGNORE);
        usleep(500);
    }
    if (rank == 0) MPI_Recv(&more, 1, MPI_INT, 0, TURN, parent, MPI_STATUS_IGNORE);
    MPI_Request request;
    MPI_Ibcast(&more, 1, MPI_INT, 0, MPI_COMM_WORLD, &request);
    for (int done = 0; !done; usleep(500)) MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    return more;
}

int main(void) {
    int provided, rank;
    MPI_Comm parent;
    tensorrt_llm_stand_in();
    MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &provided);
    signal(SIGABRT, leave_together);
    signal(SIGSEGV, leave_together);
    MPI_Comm_get_parent(&parent);
    if (parent == MPI_COMM_NULL) return 1;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    load(rank);
    MPI_Barrier(MPI_COMM_WORLD);
    int loaded = 1;
    if (rank == 0) MPI_Send(&loaded, 1, MPI_INT, 0, LOADED, parent);
    for (int turn = 1; (turn = next_turn(rank, parent)) != 0;)
        if (rank == 0) MPI_Send(&turn, 1, MPI_INT, 0, TURN, parent);
    MPI_Finalize();
    return 0;
}
