"""asyncio tools that know none of the platform's nouns."""
