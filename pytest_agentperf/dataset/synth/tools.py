"""The tools that synthetic agents are given: a core that all have, and what connected services add for some."""

from __future__ import annotations

from typing import Any


def _tool(name: str, about: str, required: str, /, *parameters: tuple[str, str, str]) -> dict[str, Any]:
    """Describe a tool; parameters are (name, type, description), `required` lists names."""
    properties = {key: {"type": kind, "description": text} for key, kind, text in parameters}
    schema = {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": about, "parameters": schema}}


_PATH = "The absolute path of the file"

CORE_TOOLS: tuple[dict[str, Any], ...] = (
    _tool(
        "bash",
        "Runs a command in a shell and returns what it printed, standard output and standard error together, and the exit "
        "status if it is not zero. The shell keeps no state between calls: variables and the working directory are gone "
        "afterwards, so chain what belongs together with &&. Output above 30000 characters is cut in the middle, and the "
        "cut is marked.\n\nUse it for tests, builds, package managers and git. Do not use it for reading or searching "
        "files: cat, head, tail, sed, find, grep and rg have tools of their own, which are faster and show line "
        "numbers.\n\nBefore you create files or directories, list the parent directory to see that it exists. Quote "
        "paths that contain spaces. Commands that need a terminal or ask questions are killed at the time limit.\n\n"
        "Never use it to push, to rewrite history, to change the git configuration, or to delete anything outside the "
        "repository, unless the user asked for exactly that.",
        "command description",
        ("command", "string", "The command to run"),
        ("description", "string", "What the command does, in five to ten words, for the user to read"),
        ("timeout", "number", "Time limit in milliseconds; 120000 if not given, at most 600000"),
        ("workdir", "string", "The directory to run in; use this instead of cd"),
    ),
    _tool(
        "read",
        "Reads a file or lists a directory. Text comes with line numbers, which are not part of the file. Up to 2000 lines "
        "are read from the start, unless an offset and a limit are given; lines longer than 2000 characters are cut. For "
        "large files search first and read the part that matters. Several files can be read at once by calling the "
        "tool several times in one answer. Reading a file that does not exist returns an error and the names that are "
        "most similar. Images and PDF files are returned as attachments.",
        "filePath",
        ("filePath", "string", _PATH),
        ("offset", "number", "The line to start from, counted from 0"),
        ("limit", "number", "How many lines to read; 2000 if not given"),
    ),
    _tool(
        "edit",
        "Replaces text in a file. The old text must occur exactly once, with its exact indentation, unless replaceAll is "
        "set; otherwise nothing is changed and the error says how often it occurs. The file must have been read before in "
        "this conversation. Prefer several small edits to one that replaces half the file, and keep the line ends that "
        "the file has. Errors that the language server finds in the file afterwards are returned with the result.",
        "filePath oldString newString",
        ("filePath", "string", _PATH),
        ("oldString", "string", "The text to replace"),
        ("newString", "string", "The text to put in its place; it must differ from the old text"),
        (
            "replaceAll",
            "boolean",
            "Replace every occurrence, for example to rename a variable; false if not given",
        ),
    ),
    _tool(
        "write",
        "Writes a file, replacing it if it exists. An existing file must have been read before. Prefer edit for files that "
        "exist. Never write documentation or summary files that the user did not ask for.",
        "filePath content",
        ("filePath", "string", _PATH),
        ("content", "string", "The whole new content"),
    ),
    _tool(
        "grep",
        "Searches file contents with a regular expression and returns the matching lines with their numbers, grouped by "
        "file, the last changed file first. At most 100 matches are returned. Ignored and binary files are left out. "
        "Special characters have to be escaped. For open-ended searches that need several rounds, use task where it is "
        "available.",
        "pattern",
        ("pattern", "string", "The regular expression"),
        ("path", "string", "The directory to search; the working directory if not given"),
        ("include", "string", "A pattern of file names to search, for example *.{ts,tsx}"),
    ),
    _tool(
        "glob",
        "Finds files by name and returns their absolute paths, the last changed first. At most 100 paths are returned.",
        "pattern",
        ("pattern", "string", "The pattern, for example src/**/*.py"),
        ("path", "string", "The directory to search; the working directory if not given"),
    ),
    _tool(
        "list",
        "Lists a directory as a tree. Ignored files are left out. Prefer glob and grep if you know what you look for.",
        "",
        ("path", "string", "The absolute path of the directory"),
        ("ignore", "string", "Patterns to leave out, separated by commas"),
    ),
    _tool(
        "todowrite",
        "Replaces the list of steps of the current task. Use it for tasks of three or more steps, when the user gives "
        "several tasks at once, and whenever you learn of a new step. Do not use it for a single simple change or for a "
        "question. States are pending, in_progress, completed and cancelled; keep exactly one step in progress, and "
        "complete it before you start another. If tests fail or something is missing, the step is not completed.",
        "todos",
        ("todos", "string", "The steps as a JSON list of objects with content, status and priority"),
    ),
    _tool("todoread", "Returns the list of steps of the current task.", ""),
    _tool(
        "webfetch",
        "Fetches a page and returns it as Markdown, text or HTML. Only for public pages that the user named or that a "
        "project's own files refer to. Long pages are cut.",
        "url format",
        ("url", "string", "The complete address, with https"),
        ("format", "string", "markdown, text or html"),
        ("timeout", "number", "Time limit in seconds, at most 120"),
    ),
    _tool(
        "task",
        "Starts another agent with its own conversation for a task that needs many steps and whose intermediate results "
        "you do not need: an open-ended search, a survey of many files, an independent review. Describe the task "
        "completely, because the other agent sees nothing of this conversation, and say what its answer must contain. "
        "The answer is not shown to the user. Several agents can run at once. Do not start one to read a known file or "
        "to search for a known name; the tools above are faster.",
        "description prompt subagent_type",
        ("description", "string", "The task in three to five words"),
        ("prompt", "string", "The whole task"),
        ("subagent_type", "string", "explore for searching without changes, general for everything else"),
        ("task_id", "string", "Continue an earlier task instead of starting a new one"),
    ),
    _tool(
        "skill",
        "Loads the instructions for a kind of work that the project or the user described beforehand. Load a skill when "
        "the task matches its description, before you start. Available: release-notes (writes the notes of a release "
        "from merged changes), flaky-tests (finds the cause of tests that fail now and then), migration (moves stored "
        "data to a new schema in steps that can be undone), profiling (measures before and after a change).",
        "name",
        ("name", "string", "The name of the skill"),
    ),
    _tool(
        "question",
        "Asks the user a question with answers to choose from. Use it only if the answer changes what you do next and "
        "cannot be found in the repository. The user can always give an answer of their own.",
        "question options",
        ("question", "string", "The question, complete and ending with a question mark"),
        ("options", "string", "A JSON list of objects with label and description, two to four of them"),
        ("multiple", "boolean", "Whether several answers may be chosen"),
    ),
    _tool(
        "websearch",
        "Searches the web and returns titles, addresses and excerpts. Use it for facts that are newer than your training, "
        "for error messages of libraries, and for documentation that is not in the repository.",
        "query",
        ("query", "string", "What to search for"),
        ("num_results", "number", "How many results; 8 if not given"),
        ("recency_days", "number", "Only pages from the last days"),
    ),
    _tool(
        "lsp_definition",
        "Returns where the symbol at a position is defined, with the lines around it.",
        "filePath line column",
        ("filePath", "string", _PATH),
        ("line", "number", "The line, counted from 1"),
        ("column", "number", "The column, counted from 1"),
    ),
    _tool(
        "lsp_references",
        "Returns all places that use the symbol at a position, grouped by file.",
        "filePath line column",
        ("filePath", "string", _PATH),
        ("line", "number", "The line, counted from 1"),
        ("column", "number", "The column, counted from 1"),
        ("include_declaration", "boolean", "Whether the definition is listed as well"),
    ),
    _tool(
        "lsp_rename",
        "Renames the symbol at a position in all files. Shows the changes without making them if preview is set.",
        "filePath line column new_name",
        ("filePath", "string", _PATH),
        ("line", "number", "The line, counted from 1"),
        ("column", "number", "The column, counted from 1"),
        ("new_name", "string", "The new name"),
        ("preview", "boolean", "Only show what would change"),
    ),
    _tool(
        "lsp_diagnostics",
        "Returns errors and warnings of a file, or of the whole project if no file is given.",
        "",
        ("filePath", "string", _PATH),
        ("severity", "string", "error, warning or hint: the least severe to return"),
    ),
)

_REPOSITORY = (
    ("owner", "string", "The owner of the repository"),
    ("repo", "string", "The name of the repository"),
)
_PAGES = (
    ("page", "number", "The page, counted from 1"),
    ("per_page", "number", "Results per page, at most 100"),
)
_NUMBER = ("number", "number", "The number of the issue or pull request")

SERVICE_TOOLS: tuple[dict[str, Any], ...] = (
    _tool(
        "tracker_list_issues",
        "Lists the issues of a repository, the last updated first. Pull requests are not included.",
        "owner repo",
        *_REPOSITORY,
        ("state", "string", "open, closed or all; open if not given"),
        ("labels", "string", "Only issues that have all of these labels, separated by commas"),
        ("assignee", "string", "Only issues assigned to this user"),
        ("since", "string", "Only issues updated after this time, as ISO 8601"),
        *_PAGES,
    ),
    _tool(
        "tracker_get_issue",
        "Returns one issue with its description, labels, assignees and linked pull requests.",
        "owner repo number",
        *_REPOSITORY,
        _NUMBER,
    ),
    _tool(
        "tracker_list_comments",
        "Returns the comments of an issue or pull request in the order they were written.",
        "owner repo number",
        *_REPOSITORY,
        _NUMBER,
        *_PAGES,
    ),
    _tool(
        "tracker_add_comment",
        "Writes a comment on an issue or pull request. Everybody who follows it is notified: only on the user's request.",
        "owner repo number body",
        *_REPOSITORY,
        _NUMBER,
        ("body", "string", "The comment, as Markdown"),
    ),
    _tool(
        "tracker_create_issue",
        "Opens an issue. Search for an existing one first.",
        "owner repo title",
        *_REPOSITORY,
        ("title", "string", "The title"),
        ("body", "string", "The description, as Markdown"),
        ("labels", "string", "Labels, separated by commas"),
        ("assignees", "string", "User names, separated by commas"),
        ("milestone", "number", "The number of the milestone"),
    ),
    _tool(
        "tracker_list_pull_requests",
        "Lists the pull requests of a repository.",
        "owner repo",
        *_REPOSITORY,
        ("state", "string", "open, closed or all; open if not given"),
        ("head", "string", "Only those from this branch, as user:branch"),
        ("base", "string", "Only those into this branch"),
        ("sort", "string", "created, updated, popularity or long-running"),
        *_PAGES,
    ),
    _tool(
        "tracker_get_pull_request",
        "Returns one pull request: description, state, branches, checks, and whether it can be merged.",
        "owner repo number",
        *_REPOSITORY,
        _NUMBER,
    ),
    _tool(
        "tracker_get_pull_request_diff",
        "Returns the changes of a pull request as a unified diff. Large diffs are cut; ask for single files then.",
        "owner repo number",
        *_REPOSITORY,
        _NUMBER,
        ("path", "string", "Only the changes of this file"),
    ),
    _tool(
        "tracker_create_pull_request",
        "Opens a pull request from a branch that was pushed already. Only on the user's request.",
        "owner repo title head base",
        *_REPOSITORY,
        ("title", "string", "The title"),
        ("body", "string", "The description, as Markdown"),
        ("head", "string", "The branch with the changes"),
        ("base", "string", "The branch to merge into"),
        ("draft", "boolean", "Open it as a draft"),
    ),
    _tool(
        "tracker_get_job_logs",
        "Returns the log of a job of the continuous integration, or of all failed jobs of a run. Only the last lines are "
        "returned unless tail_lines says otherwise.",
        "owner repo",
        *_REPOSITORY,
        ("job_id", "number", "The job; needed if run_id is not given"),
        ("run_id", "number", "The run whose failed jobs are wanted"),
        ("failed_only", "boolean", "Only jobs that failed"),
        ("tail_lines", "number", "How many lines from the end; 500 if not given"),
    ),
    _tool(
        "tracker_search_code",
        "Searches the code of all repositories that you may read. Use it to see how others use an interface.",
        "query",
        ("query", "string", "Words, and qualifiers such as language:go, path:src or symbol:Name"),
        ("sort", "string", "indexed for the newest first"),
        *_PAGES,
    ),
    _tool(
        "database_query",
        "Runs one statement on the development database and returns the rows as a table. The connection is read-only: "
        "statements that write are refused. Add a limit; at most 200 rows are returned.",
        "sql",
        ("sql", "string", "The statement"),
        ("parameters", "string", "A JSON list of values for the placeholders"),
        ("timeout_ms", "number", "Time limit; 10000 if not given"),
    ),
    _tool(
        "database_describe",
        "Returns the columns, types, keys and indexes of a table, or the names of all tables if none is given.",
        "",
        ("table", "string", "The table, with its schema"),
        ("include_statistics", "boolean", "Also return the number of rows and the sizes of the indexes"),
    ),
    _tool(
        "browser_navigate",
        "Opens an address in the browser of this session and returns the page's accessibility tree with references.",
        "url",
        ("url", "string", "The address; only the local development server is allowed"),
    ),
    _tool(
        "browser_click",
        "Clicks an element of the page and returns the tree as it is afterwards.",
        "element ref",
        ("element", "string", "What the element is, for the user to read"),
        ("ref", "string", "The reference of the element from the last tree"),
        ("double", "boolean", "Click twice"),
    ),
    _tool(
        "browser_type",
        "Types text into a field of the page.",
        "element ref text",
        ("element", "string", "What the field is, for the user to read"),
        ("ref", "string", "The reference of the field from the last tree"),
        ("text", "string", "The text"),
        ("submit", "boolean", "Press Enter afterwards"),
    ),
    _tool(
        "browser_console",
        "Returns the messages of the browser's console since the page was opened, errors first.",
        "",
        ("level", "string", "error, warning, info or debug: the least severe to return"),
    ),
    _tool(
        "docs_search",
        "Searches the documentation of a library in the version that the project uses, and returns the best sections.",
        "library query",
        ("library", "string", "The name of the library as in the manifest"),
        ("query", "string", "What to find: a name, an error message, or a question"),
        ("version", "string", "The version; the one in the lock file if not given"),
        ("max_tokens", "number", "How much to return; 5000 if not given"),
    ),
)
