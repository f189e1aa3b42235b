# A page that shows what the platform gave this dyno.
require "socket"

run lambda { |_env|
  greeting = ENV.fetch("GREETING", "Hello from Deodar")
  dyno = ENV.fetch("DYNO", "no dyno")
  release = ENV.fetch("HEROKU_RELEASE_VERSION", "no release")
  body = "#{greeting}\n#{dyno} (#{release}) on #{Socket.gethostname}\n"
  [200, { "content-type" => "text/plain" }, [body]]
}
