//! Work as people do it: a shell that starts programs, and a build.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use super::figures::Figure;
use super::placement::Placement;
use super::setup::{Setup, output_of};

/// Programs that the shell starts.
const SPAWNED: u32 = 200;
/// Source files of the project.
const SOURCES: u32 = 20;

/// How a command is run, and on which CPUs.
const WAYS: [(&str, Placement, &str); 6] = [
    ("native", Placement::Together, "no tracer, on one CPU"),
    ("host", Placement::Together, "host, embedded default plugins, on one CPU"),
    ("strace", Placement::Together, "strace -f --seccomp-bpf -e trace=openat, on one CPU"),
    ("native", Placement::Free, "no tracer"),
    ("host", Placement::Free, "host, embedded default plugins"),
    ("strace", Placement::Free, "strace -f --seccomp-bpf -e trace=openat"),
];

/// One of each way.
type Keys = [&'static str; WAYS.len()];

pub(crate) fn spawning(setup: &Setup) -> Vec<Figure> {
    let count = setup.times(SPAWNED.into());
    let script = format!("i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i+1)); done");
    eprintln!("spawning");
    let keys =
        ["spawn-native", "spawn-host", "spawn-strace", "spawn-native-free", "spawn-host-free", "spawn-strace-free"];
    measure(setup, keys, &["sh", "-c", &script])
}

pub(crate) fn building(setup: &Setup) -> Vec<Figure> {
    let keys =
        ["build-native", "build-host", "build-strace", "build-native-free", "build-host-free", "build-strace-free"];
    match project(setup) {
        Ok(directory) => {
            eprintln!("building");
            measure(setup, keys, &["make", "-B", "-s", "-j2", "-C", &directory.display().to_string()])
        }
        Err(error) => {
            let mut figures = figures(keys);
            figures[0].measure(|| Err(error));
            figures
        }
    }
}

fn figures(keys: Keys) -> Vec<Figure> {
    keys.iter().zip(WAYS).map(|(key, (_, _, title))| Figure::new(key, title, "ms")).collect()
}

fn measure(setup: &Setup, keys: Keys, command: &[&str]) -> Vec<Figure> {
    let mut figures = figures(keys);
    // Fills caches, also the host's; what is wrong here shows again below.
    for (way, ..) in WAYS {
        let _ = milliseconds(setup, way, command);
    }
    for _ in 0..setup.rounds.min(9) {
        for (figure, (way, placement, _)) in figures.iter_mut().zip(WAYS) {
            figure.measure(|| placement.during(|| milliseconds(setup, way, command)));
        }
    }
    figures
}

fn milliseconds(setup: &Setup, way: &str, command: &[&str]) -> anyhow::Result<f64> {
    let mut whole = match way {
        "host" => setup.host(["run", "--alerts", "/dev/null", "--"]),
        "strace" => Command::new("strace"),
        _ => Command::new("env"),
    };
    if way == "strace" {
        whole.args(["-f", "--seccomp-bpf", "-e", "trace=openat", "-o", "/dev/null"]);
    }
    // cargo sets it, and each program would look through it for its libraries.
    whole.env_remove("LD_LIBRARY_PATH");
    let since = Instant::now();
    output_of(whole.args(command))?;
    Ok(since.elapsed().as_secs_f64() * 1e3)
}

/// A C project with many small files.
fn project(setup: &Setup) -> anyhow::Result<PathBuf> {
    let directory = setup.scratch.path().join("project");
    std::fs::create_dir_all(&directory)?;
    let mut sum = String::new();
    for number in 0..SOURCES {
        let source = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n\
             int part{number}(const char *text) {{ return snprintf(NULL, 0, \"{number} %s %zu\", text, strlen(text)); }}\n"
        );
        std::fs::write(directory.join(format!("part{number}.c")), source)?;
        write!(sum, " + part{number}(argv[0])")?;
    }
    let declarations: String = (0..SOURCES).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "int part{number}(const char *);");
        text
    });
    let main = format!("{declarations}int main(int argc, char **argv) {{ return argc == 0{sum}; }}\n");
    std::fs::write(directory.join("main.c"), main)?;
    let makefile = "OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))\n\
                    all: $(OBJECTS)\n\tcc -o all $(OBJECTS)\n\
                    %.o: %.c\n\tcc -O1 -c -o $@ $<\n";
    std::fs::write(directory.join("Makefile"), makefile)?;
    Ok(directory)
}
