"""Sets apps up from sources with an app.json: config vars, build, formation, postdeploy command."""
