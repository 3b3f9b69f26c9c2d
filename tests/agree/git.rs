//! git, with its helpers, hooks and housekeeping.

use super::case::{Case, sh};

pub fn cases() -> Vec<Case> {
    let git = |name, script: &str, says| {
        sh(name, &format!("{PREPARED}{script}"), says)
            // It has times and inodes of files.
            .varying(&[".git/index"])
            .needs(&["git"])
    };
    vec![
        git(
            "init, commit, log, diff",
            r#"
            git add -A; git commit -m first; echo more >> file; git diff; git commit -qam second
            git log --stat --format='%h %an %s'; git status --short; git show HEAD~1:file; git rev-parse HEAD; git blame -s file
            git rev-parse no-such; echo $?; git nonsense; echo $?
            "#,
            "2 files changed",
        ),
        git(
            "branches, merges and conflicts",
            r#"
            git add -A; git commit -qm base; git checkout -qb side; echo side > file; git commit -qam side
            git checkout -q main; echo main > file; git commit -qam main; git merge side; echo $?
            cat file; git checkout --ours file; git add file; git commit -qm merged; git log --graph --format=%s
            git stash list; git tag -a -m tagged v1; git describe; git branch -D side
            "#,
            "CONFLICT",
        ),
        git(
            "rebase with hooks",
            r#"
            git add -A; git commit -qm base
            for n in 1 2 3; do echo $n > file$n; git add file$n; git commit -qm "change $n"; done
            printf '#!/bin/sh\necho "hook ${0##*/} $# $(git rev-parse --git-dir)"\n' > .git/hooks/pre-commit
            chmod +x .git/hooks/pre-commit; cp .git/hooks/pre-commit .git/hooks/post-commit; cp .git/hooks/pre-commit .git/hooks/post-rewrite
            GIT_SEQUENCE_EDITOR='sed -i "2s/pick/squash/; 3s/pick/reword/"' GIT_EDITOR='sed -i 1s/change/Change/' git rebase -i HEAD~3 2>&1 | tr '\r' '\n'
            git log --format=%s%b; printf '#!/bin/sh\nexit 1\n' > .git/hooks/pre-commit; git commit --allow-empty -m refused; echo $?
            "#,
            "hook pre-commit",
        ),
        git(
            "clone, push and fetch",
            r#"
            git add -A; git commit -qm base; cd ..; git clone -q --bare repository bare.git; git clone -q bare.git copy 2>&1
            cd copy; echo x > x; git add x; git commit -qm x; git push -q origin main; echo $?
            cd ../repository; git pull -q ../bare.git main; git log --format=%s; git fsck --full
            git clone -q missing elsewhere; echo $?; git bundle create -q ../all.bundle main; git bundle verify -q ../all.bundle; echo $?
            cd ..; rm -rf all.bundle
            "#,
            "x\nbase",
        ),
        git(
            "housekeeping",
            r#"
            for n in $(seq 20); do seq $n > file$n; git add -A; git commit -qm $n; done
            git gc -q --prune=now; git count-objects -v | grep -E 'count|in-pack|packs|garbage'; git fsck --strict; git repack -adfq; git reflog expire --all --expire=now
            git prune; git verify-pack -s .git/objects/pack/*.idx | head -n 2; git archive HEAD | tar -t | wc -l; git grep -c 19 | wc -l
            "#,
            "in-pack: 61",
        ),
        git(
            "bisect with a script, and a pager",
            r#"
            for n in 1 2 3 4 5 6 7 8; do echo $n > file; git add -A; git commit -qm "commit $n"; done
            git bisect start HEAD HEAD~7; git bisect run sh -c '[ $(cat file) -lt 5 ]' | grep 'is the first'; git bisect reset
            GIT_PAGER='cat; exit 3' git --paginate log --oneline -n 1; git -c alias.x='!echo alias; exit 4' x; echo $?
            "#,
            "is the first bad commit",
        ),
    ]
}

/// A repository with two files and settings that leave nothing to chance.
const PREPARED: &str = r#"
git config --global pack.threads 1; git config --global gc.auto 0; git config --global maintenance.auto false
git config --global init.defaultBranch main; git config --global core.pager cat; git config --global advice.statusHints false
git config --global index.threads 1; git config --global core.preloadIndex false; git config --global protocol.file.allow always
mkdir repository && cd repository && git init -q --template= && mkdir -p .git/hooks && seq 10 > file && echo b > other
"#;
