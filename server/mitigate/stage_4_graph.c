/* Stage 4: the network as a graph of neurons. Features that need the warm mask are added in stage 5. */
#include "server/mitigate/job.h"

enum status stage_graph(struct job *job, struct error *error) {
    const enum status status = neuron_graph_new(job->network, job->units, &job->graph, error);
    if (status == STATUS_OK) {
        int edges = 0;
        for (size_t r = 0; r < RELATION_COUNT; r++) {
            edges += (int)job->graph->edges[r].start[job->graph->node_count];
        }
        job_trace(job, json_pack("{s:i, s:i, s:i}", "nodes", (int)job->graph->node_count, "edges", edges, "layers",
                                 (int)job->units->layer_count));
    }
    return status;
}
