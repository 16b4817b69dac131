//! Commands that are not run here, each with the reason, and the words that stand for others.

/// The beginning of a command, and why it is not run. A command that no line here has is run, or fails the test.
pub(super) const NOT_RUN: [(&str, &str); 40] = [
    (
        "weightctl rollback {backend} --to {",
        "needs a history with several answers; tests/it/rollback.rs runs what is printed",
    ),
    (
        "weightctl rollback {backend}{} --yes",
        "needs a history with several answers; tests/it/rollback.rs runs what is printed",
    ),
    ("weightctl override app1 --back", "needs a document with the field `back`; tests/it/overriding.rs runs it"),
    ("sudo apt ", "installs or removes a package as root; `make package-test` does both"),
    ("sudo systemctl ", "needs root and systemd; tests/package/run.sh starts, stops and reloads the unit"),
    ("systemctl ", "needs systemd; tests/package/run.sh starts, stops and reloads the unit"),
    ("sudo systemd-sysusers", "needs root; tests/package/run.sh installs the same file"),
    ("sudo install ", "needs root and the paths of the machine; tests/it/unit.rs checks the files"),
    ("sudoedit ", "opens an editor"),
    ("sudo usermod ", "changes the users of the machine"),
    ("sudo chown ", "changes a file of the machine as root"),
    ("sudo rm ", "deletes a file of the machine; tests/it/state_file.rs does what it is for"),
    ("sudo -u weightd weightd --check", "needs the user weightd; tests/it/daemon.rs checks a token's file"),
    ("sudo sed ", "changes the packaged file; tests/it/coming.rs runs it"),
    ("journalctl ", "needs systemd's journal"),
    ("docker ", "needs Docker; `make compose-test` runs the page"),
    ("cargo ", "builds the project, as these tests were built"),
    ("go install ", "downloads and builds consul-template, as `make coming` does"),
    ("curl ", "needs curl; tests/it/wire_consul.rs checks the header"),
    ("openssl ", "reads a certificate of the machine"),
    ("ss ", "reads the sockets of the machine"),
    ("ps ", "reads the processes of the machine"),
    ("ls ", "reads a path of the machine"),
    ("id ", "reads a user of the machine"),
    ("dig ", "asks the machine's name server"),
    ("stat ", "reads a path of the machine"),
    ("kill ", "signals a process of the machine"),
    ("export ", "sets a variable of a shell"),
    ("consul snapshot restore", "the name of a command that takes a snapshot"),
    ("consul kv import", "the name of a command that takes a file"),
    ("consul kv delete -recurse {", "tests/it/ctl.rs deletes the leaves that it names"),
    ("consul kv delete {", "its key is that of a rejected document"),
    ("consul kv get -keys -recurse", "an argument is missing: the prefix follows in the sentence"),
    ("consul kv get -keys", "an argument is missing: the prefix follows in the sentence"),
    ("consul acl ", "needs ACLs; tests/it/check.rs runs what `check` prints"),
    ("consul operator raft ", "needs a Consul that is no development agent"),
    ("weightctl node forget ", "needs a node that is gone; tests/it/fleet_ctl/wait.rs forgets one"),
    ("weightctl node expect ", "needs as many nodes; tests/it/fleet_ctl/shown.rs has two"),
    ("weightctl status --watch", "does not end; tests/it/fleet_ctl/shown.rs ends it"),
    ("weightctl set {backend} {zeros} ", "is refused on purpose: tests/it/import.rs runs what is printed"),
];

/// Verbs that need an argument: alone between backticks they are names, of which the help is asked for.
pub(super) const VERBS: [&str; 10] =
    ["set", "release", "import", "pause", "completions", "rollback", "settle", "freeze", "node forget", "override"];

/// What a person replaces, or the program fills in, and what it is here. The longer ones come first.
pub(super) const PLACEHOLDERS: [(&str, &str); 18] = [
    ("nodes/NODE", "nodes/lb1"),
    ("status {} --local", "status app --local"),
    ("unfreeze{scope}", "unfreeze app"),
    ("{socket}", "/run/haproxy/admin.sock"),
    ("{backend}", "app"),
    ("{near}", "set"),
    ("--from-kv {above}", "--from-kv traffic"),
    ("set BACKEND {0}", "set app blue=90 green=10"),
    ("--config {}", "--config /etc/weightd/weightd.toml"),
    ("BACKEND/SERVER", "app/blue"),
    ("BACKEND", "app"),
    ("SERVER=WEIGHT …", "blue=90 green=10"),
    ("import app …", "import app --from-haproxy /run/haproxy/admin.sock"),
    ("THAT_SERVER", "blue"),
    ("set … --create", "set app blue=90 green=10 --create"),
    ("release … --create", "release app --create"),
    ("set app … --create", "set app blue=90 green=10 --create"),
    ("--create …", "--create blue=90 green=10"),
];
