//! Every input in the corpora keeps its target's promise. Inputs that broke one once belong there.

use std::path::Path;

#[test]
fn every_seed_keeps_its_promise() {
    for (name, target) in nixcache_fuzz::TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut inputs = 0;
        for entry in std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display())) {
            target(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", corpus.display());
        println!("{name}: {inputs} inputs");
    }
}
