-- Graphs of neurons for pictures, as they were computed: layer -1 is the list of layers.
CREATE TABLE graphs (
    sha256 TEXT NOT NULL,
    layer  INTEGER NOT NULL,
    graph  TEXT NOT NULL,
    PRIMARY KEY (sha256, layer)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER graphs_go_with_their_model AFTER DELETE ON models BEGIN
    DELETE FROM graphs WHERE sha256 = OLD.sha256;
END;
