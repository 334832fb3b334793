# Which models are run: those that the config names, or lines of the model table, all or by their tags.
from juicyfruits.errors import first_names


def read_model_table():
    """The model table: model_uid and tags, a set of words."""
    path = config["model_table"]
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, index_col=False).fillna("")
    except (OSError, ValueError) as error:
        raise WorkflowError(f"model_table: {path} cannot be read: {error}") from None
    check(path, table, "../schemas/models.schema.yaml")
    tags = table["tags"] if "tags" in table else [""] * len(table)
    return table.assign(
        tags=[{tag.strip() for tag in words.split(",")} for words in tags]
    )


def tagged(table, tag):
    """The lines of the model table that carry a tag, or any of a list of tags."""
    wanted = [str(word) for word in (tag if isinstance(tag, list) else [tag])]
    known = sorted(set().union(*table["tags"]) - {""})
    for word in wanted:
        if word not in known:
            raise WorkflowError(
                f"tag: no line of {config['model_table']} carries {word!r}; {near_names(word, known)}"
            )
    return table[[not tags.isdisjoint(wanted) for tags in table["tags"]]]


def model_uids():
    """The models to run, each once."""
    if config["models"] and config["tag"] is not None:
        raise WorkflowError(
            "models and tag are both set, and each says which models are run; leave one out, as by --config tag=null"
        )
    where, uids = "models", config["models"]
    if not uids:
        where, table = config["model_table"], read_model_table()
        chosen = table if config["tag"] is None else tagged(table, config["tag"])
        uids = chosen["model_uid"].tolist()
    repeated = sorted({uid for uid in uids if uids.count(uid) > 1})
    if repeated or not uids:
        raise WorkflowError(
            f"{where} {'names ' + first_names(repeated) + ' twice' if repeated else 'has no models'}"
        )
    return uids


def check_model(uid):
    """Refuse a model that nobody knows, or that takes no pictures, before anything runs."""
    # This import takes time, and so comes only where something is to be computed.
    from deepjuice.model_zoo import require_modality

    try:
        require_modality(uid, "image")
    except InputError as error:
        raise WorkflowError(str(error)) from None


MODELS = model_uids()
# The processes of jobs come here, too: for them all has been checked.
if workflow.is_main_process and not all(
    Path(path).exists() for path in expand(SCORES, benchmark=BENCHMARKS, model=MODELS)
):
    for uid in MODELS:
        check_model(uid)


def known_model(wildcards):
    """Input of nothing: a model that was asked for by its file's name is checked as those of the table are."""
    if workflow.is_main_process and wildcards.model not in MODELS:
        check_model(wildcards.model)
    return []
