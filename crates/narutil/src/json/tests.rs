//! The schemas in `docs/reference/schemas` are those of the types.

use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::{
    Check, Closure, Convert, Difference, Doctor, DryRun, Finding, GeneratedKey, Hashed, Info, ListedPaths,
    NarInfoCheck, PublicKey, Pull, Push, Removal, Root, Scan, Signed, Verification, Why, WhyAll,
};

/// The schema of a type, in the few words that the test of the real output knows.
fn schema<T: JsonSchema>(title: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut schema = serde_json::to_value(schema).unwrap();
    simplify(&mut schema);
    schema["title"] = title.into();
    schema
}

/// Removes the names of Rust's number types, and forbids keys that are not described. A key that
/// may be missing is never null.
fn simplify(schema: &mut Value) {
    let Some(words) = schema.as_object_mut() else { return };
    for word in ["format", "maximum"] {
        words.shift_remove(word);
    }
    if let Some(Value::String(description)) = words.get_mut("description") {
        *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if words.contains_key("enum") {
        words.shift_remove("type");
    }
    if let Some(items) = words.get_mut("items") {
        simplify(items);
    }
    if let Some(values) = words.get_mut("additionalProperties") {
        simplify(values);
    }
    let required = words.get("required").cloned().unwrap_or_else(|| json!([]));
    if let Some(Value::Object(properties)) = words.get_mut("properties") {
        for (key, property) in properties {
            simplify(property);
            if !required.as_array().unwrap().contains(&json!(key))
                && let Some(Value::Array(types)) = property.get("type")
            {
                let types: Vec<Value> = types.iter().filter(|name| *name != "null").cloned().collect();
                property["type"] = types[0].clone();
            }
        }
        words.insert("additionalProperties".to_owned(), false.into());
    }
}

#[test]
fn the_schemas_in_the_reference_are_those_of_the_types() {
    let schemas = [
        ("audit", schema::<Finding<'_>>("`audit`")),
        ("check", schema::<Check>("`check`")),
        ("closure", schema::<Closure>("`closure`")),
        ("convert", schema::<Convert>("`convert`")),
        ("diff", schema::<Difference>("`diff`")),
        ("doctor", schema::<Doctor<'_>>("`doctor`")),
        ("dry-run", schema::<DryRun<'_>>("`push --dry-run`, `pull --dry-run`")),
        ("gc", schema::<Removal<'_>>("`gc`")),
        ("info", schema::<Info>("`info`")),
        ("key-generate", schema::<GeneratedKey<'_>>("`key generate`")),
        ("key-public", schema::<PublicKey<'_>>("`key public`")),
        ("ls-cache", schema::<ListedPaths>("`ls CACHE`")),
        ("narinfo-check", schema::<NarInfoCheck<'_>>("`narinfo check`")),
        ("pack", schema::<Hashed>("`pack`, `unpack`, `hash`")),
        ("pull", schema::<Pull<'_>>("`pull`")),
        ("push", schema::<Push<'_>>("`push`")),
        ("roots", schema::<Root<'_>>("`roots`")),
        ("scan", schema::<Scan<'_>>("`scan`")),
        ("sign", schema::<Signed<'_>>("`sign`")),
        ("verify", schema::<Verification<'_>>("`verify`")),
        ("why", schema::<Why<'_>>("`why`")),
        ("why-all", schema::<WhyAll>("`why --all`")),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/schemas");
    for (name, schema) in schemas {
        let file = folder.join(format!("{name}.json"));
        let text = format!("{schema:#}\n");
        if std::env::var_os("NARUTIL_WRITE_SCHEMAS").is_some() {
            fs::write(&file, text).unwrap();
        } else {
            let found = fs::read_to_string(&file).unwrap();
            assert_eq!(found, text, "{name}.json: run this test with NARUTIL_WRITE_SCHEMAS=1");
        }
    }
}
